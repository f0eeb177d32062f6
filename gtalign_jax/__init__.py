"""GTAlign (arXiv 2510.08872) in JAX: assistants trained for mutual welfare."""

__version__ = "0.1.0"
