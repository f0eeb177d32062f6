"""One client for every OpenAI-compatible endpoint: judge, user, teacher, and a policy itself."""
