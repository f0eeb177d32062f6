"""GTAlign (arXiv 2510.08872) in JAX: assistants trained for the mutual welfare of user and service."""

__version__ = "0.1.0"
