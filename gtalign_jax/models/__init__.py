"""Decoders: architecture, parameters, tokenizers, checkpoints in and out."""

from gtalign_jax.models.loading import describe, load
from gtalign_jax.models.policy import Policy

__all__ = ["Policy", "describe", "load"]
