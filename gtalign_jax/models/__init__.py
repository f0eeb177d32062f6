"""Decoders: architecture, parameters, tokenizers, checkpoints in and out."""

from gtalign_jax.models.loading import load
from gtalign_jax.models.policy import Policy

__all__ = ["Policy", "load"]
