"""Decoders: architecture, parameters, tokenizers, checkpoints in and out."""

from gtalign_jax.models.loading import Policy, describe, load

__all__ = ["Policy", "describe", "load"]
