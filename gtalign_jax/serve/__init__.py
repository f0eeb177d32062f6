"""`gtalign serve`: an OpenAI-compatible server over the rollout engine."""
