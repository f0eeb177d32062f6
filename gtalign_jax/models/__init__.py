"""Decoders: architecture, parameters, tokenizers, checkpoints in and out."""

from gtalign_jax.models.policy import Policy, load

__all__ = ["Policy", "load"]
