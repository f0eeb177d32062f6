"""One client for every OpenAI-compatible endpoint: the judge's, the teacher's."""
