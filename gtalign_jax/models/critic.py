"""The critic of PPO: what reward is still to come, after each token.

Its trunk is a decoder of its own that starts as the policy (as in the paper), or the policy's, read
and never changed. Parameters: {"trunk": …, "head": {"kernel": [D], "bias": []}}, without a trunk
where it is shared. The trunk has the form of the policy's trained parameters (adapters with LoRA),
without the output matrix, which a critic does not need.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from gtalign_jax.models import lora, prefix
from gtalign_jax.models.variants import Arch
from gtalign_jax.sections import PolicyConfig
from gtalign_jax.types import Prompts


def init(arch: Arch, params: Any, own: bool) -> Any:
  """A critic that says 0 of everything: the first values must not depend on chance.

  params: the policy's trained parameters, which an own trunk begins as a copy of.
  """
  head = {"kernel": jnp.zeros(arch.width, jnp.float32), "bias": jnp.zeros((), jnp.float32)}
  if not own:
    return {"head": head}
  return {"trunk": jax.tree.map(jnp.copy, _trunk(params)), "head": head}


def like(names: Any, own: bool, whole: Any) -> Any:
  """A tree of the critic's form from one of the policy's form, of shardings.

  whole: what stands for the head, which every device holds.
  """
  head = {"kernel": whole, "bias": whole}
  return {"trunk": _trunk(names), "head": head} if own else {"head": head}


def _trunk(params: Any) -> Any:
  return {name: each for name, each in params.items() if name != "head"}


def values(
  arch: Arch,
  policy: PolicyConfig,
  critic: Any,
  base: Any,
  prompt: Prompts,
  tokens_BC: jax.Array,
) -> jax.Array:
  """Value before each completion token, [B, C] f32, B = P * G prompt-major.

  base: the frozen weights under adapters or None; for a shared trunk the pair of that and the
  policy's trained parameters. Nothing flows back into `base`.
  """
  if "trunk" in critic:
    frozen, trained = base, critic["trunk"]
  else:
    frozen, trained = jax.lax.stop_gradient(base)
  params = trained if frozen is None else lora.join(frozen, trained, policy)
  hidden_BCD = prefix.hidden(
    arch, params, prompt, tokens_BC, dtype=policy.dtype, remat=policy.remat
  )
  # f32 as every head: bf16 values of about 1 come in steps of 0.008
  hidden_BCD = hidden_BCD.astype(jnp.promote_types(hidden_BCD.dtype, jnp.float32))
  return hidden_BCD @ critic["head"]["kernel"] + critic["head"]["bias"]
