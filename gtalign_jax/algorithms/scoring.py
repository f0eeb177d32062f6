"""What is known of completions before the first update: log-probabilities and values.

Computed slice by slice; the results lie in whole arrays [B, C] again, in the order of the rows, so
that mini-batches may cut them in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gtalign_jax.algorithms import slices
from gtalign_jax.models import decoder, lora, prefix
from gtalign_jax.models.critic import values
from gtalign_jax.models.variants import Arch
from gtalign_jax.ops import grammar
from gtalign_jax.ops.logprobs import Allowed, token_logprobs
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.progress import WorkLog
from gtalign_jax.sections import CriticConfig, GRPOConfig, PolicyConfig
from gtalign_jax.types import Experience, Fixed, Grammar, TrainBatch, TrainState

TURNS = "turn_"  # how names of programs for later turns of conversations begin


class Objective(NamedTuple):
  """What is minimised; hashable, so it is static in jit.

  temperature: of the rollout, so that log-probabilities are those of the distribution that was
  sampled; 1 in the warm start. max_tokens: completion budget. grpo: None for supervised cross
  entropy. critic: read where the advantage is gae.
  """

  arch: Arch
  policy: PolicyConfig
  temperature: float
  max_tokens: int
  grpo: GRPOConfig | None
  critic: CriticConfig = CriticConfig()


class Recipe(NamedTuple):
  """What says how a run learns, and the parameters that it reads and never changes."""

  grpo: GRPOConfig
  critic: CriticConfig
  fixed: Fixed
  seed: int


class Job(NamedTuple):
  """A program that scores slices, and its first two arguments. field: of the Experience."""

  field: str
  program: str
  params: Any
  frozen: Any


# ---------------------------------------------------------------- on the page (train/grpo.py)


def score(
  state: TrainState, experience: Experience, recipe: Recipe, programs: Executables, log: WorkLog
) -> Experience:
  """Adds what updates compare with: log-probabilities of the old policy and of the reference.

  And the critic's values, with `grpo.advantage="gae"`. The old policy is that of `state`, before
  the first of several updates; where there is one alone, its own forward pass gives them, and the
  ratio is exactly 1. Only trained rows are scored.
  """
  wanted = jobs(state, recipe)
  if not wanted:
    return experience
  with log.phase("logprob"):
    cuts = slices.of(experience, recipe.grpo)
    found = _scored(experience, cuts, wanted, programs, log)
    if experience.later is not None:
      later, cuts = experience.later, slices.of_later(experience, recipe.grpo)
      scores = _scored(later, cuts, wanted, programs, log, TURNS)
      found |= {"later": later._replace(**scores)}
  return experience._replace(**found)


def _scored(
  experience: Experience,
  cuts: Sequence[slices.Slice],
  wanted: Sequence[Job],
  programs: Executables,
  log: WorkLog,
  prefix: str = "",
) -> dict[str, Any]:
  found = {job.field: programs[f"{prefix}no_scores"]() for job in wanted}
  batch = train_batch(experience)
  for number, each in enumerate(cuts, start=1):
    log.doing(f"logprob {number}/{len(cuts)}")
    part, index = take(programs, batch, each, f"{prefix}take_to_score")
    for job in wanted:
      scored_BC = programs[(job.program, *sizes(part))](job.params, job.frozen, part)
      found[job.field] = programs[f"{prefix}put", each.width](found[job.field], scored_BC, *index)
  jax.block_until_ready(found)
  return found


def jobs(state: TrainState, recipe: Recipe) -> list[Job]:
  """What is scored before the first update. Parameters may be shapes."""
  config, critic, fixed, found = recipe.grpo, recipe.critic, recipe.fixed, []
  if config.updates > 1 or (config.advantage == "gae" and critic.kl_coef):
    found.append(Job("old_logp_BC", "score_policy", state.params, fixed.frozen))
  if fixed.reference is not None:
    found.append(Job("ref_logp_BC", "score_reference", fixed.reference, fixed.frozen))
  if state.critic is not None:
    base = value_base(state, recipe)
    found.append(Job("value_BC", "score_values", state.critic.params, base))
  return found


def value_base(state: TrainState, recipe: Recipe) -> Any:
  """What `critic.values` reads besides the critic's own parameters."""
  frozen = recipe.fixed.frozen
  return frozen if recipe.critic.trunk == "own" else (frozen, state.params)


# ---------------------------------------------------------------- slices


def train_batch(experience: Experience) -> TrainBatch:
  """All rows of an experience as updates see them, with what has been added to them so far."""
  rollout, mask_BC = experience.rollout, experience.mask_BC
  return TrainBatch(
    prompt=experience.prompts,
    tokens_BC=rollout.tokens_BC,
    mask_BC=rollout.mask_BC if mask_BC is None else mask_BC,
    advantage=experience.advantage,
    sampler_logp_BC=rollout.logp_BC,
    old_logp_BC=experience.old_logp_BC,
    ref_logp_BC=experience.ref_logp_BC,
    value_BC=experience.value_BC,
    return_BC=experience.return_BC,
    block_BC=experience.block_BC,
    grammar=experience.grammar,
  )


def take(
  programs: Executables, batch: TrainBatch, each: slices.Slice, program: str = "take"
) -> tuple[TrainBatch, tuple[jax.Array, jax.Array]]:
  """The rows of one slice, and where they lie (prompt_p, sample_pg)."""
  alone, bucket = sharding.replicated(programs.mesh), batch.prompt.tokens_PT.shape[1]
  index = distributed.to_device((each.prompt_p, each.sample_pg), (alone, alone))
  return programs[program, bucket, each.width](batch, *index), index


def sizes(part: TrainBatch) -> tuple[int, ...]:
  """What tells the program of one slice from those of others: its padded sizes."""
  return (*part.prompt.tokens_PT.shape, *part.tokens_BC.shape)


# ---------------------------------------------------------------- pure functions


def logprobs(
  objective: Objective, params: Any, frozen: Any, batch: TrainBatch
) -> tuple[jax.Array, jax.Array]:
  """Log-probability and entropy of each completion token under the policy, [B, C] f32.

  Under a grammar they are those of the tokens that it allowed, as in sampling.
  """
  arch, policy = objective.arch, objective.policy
  params = params if frozen is None else lora.join(frozen, params, policy)
  hidden_BCD = prefix.hidden(
    arch, params, batch.prompt, batch.tokens_BC, dtype=policy.dtype, remat=policy.remat
  )
  return token_logprobs(
    hidden_BCD,
    decoder.head(arch, params),
    batch.tokens_BC,
    temperature=objective.temperature,
    softcap=arch.softcap,
    blank=arch.blank,
    allowed=None if batch.grammar is None else _allowed(batch, batch.grammar),
  )


def _allowed(batch: TrainBatch, tables: Grammar) -> Allowed:
  (B, C), begin_P = batch.tokens_BC.shape, batch.prompt.grammar_P
  begin_B = jnp.repeat(begin_P, B // begin_P.shape[0])
  state_BC = grammar.states(tables, begin_B, batch.tokens_BC, batch.mask_BC)
  count_BC = jnp.broadcast_to(jnp.arange(C, dtype=jnp.int32), (B, C))
  return Allowed(tables.class_V, grammar.allowed(tables, state_BC, count_BC))


def logprobs_only(objective: Objective, params: Any, frozen: Any, batch: TrainBatch) -> jax.Array:
  """`logprobs` without entropy: the program of the old policy and of the reference."""
  return logprobs(objective, params, frozen, batch)[0]


def values_only(objective: Objective, params: Any, base: Any, batch: TrainBatch) -> jax.Array:
  """`critic.values` of a slice, [B, C] f32."""
  return values(objective.arch, objective.policy, params, base, batch.prompt, batch.tokens_BC)
