"""The supervised warm start: token-mean cross entropy on label-grounded chains."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.data import batches
from gtalign_jax.errors import BadInput
from gtalign_jax.parallel import distributed, programs, sharding
from gtalign_jax.sections import SFTConfig
from gtalign_jax.synthesize import sft_data
from gtalign_jax.train.phase import Late, Phase
from gtalign_jax.train.run import Run
from gtalign_jax.types import Prompts, TrainBatch, TrainState

log = logging.getLogger(__name__)


class Examples(NamedTuple):
  """Tokenised supervision.

  prefix: tokens that all prompts begin with (the instructions); computed once a slice, not once a
  row. rests: each example's remaining prompt and its chain in one array. starts: where the chain begins.
  """

  prefix: np.ndarray
  rests: list[np.ndarray]
  starts: list[int]


def load_examples(run: Run) -> Examples:
  """Chains of `sft.data`, or synthesised from the training prompts."""
  config = run.config.sft
  pairs, left_out = sft_data.examples(
    run.train_set, run.held.tokenizer, config, seed=run.config.seed, data_config=run.config.data
  )
  if left_out:
    log.info("sft: left out %d examples over %d tokens", left_out, config.max_tokens)
  if not pairs:
    raise BadInput(f"sft.max_tokens={config.max_tokens} leaves no example; raise it")
  return split(pairs)


def split(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Examples:
  """Examples with the common beginning of all prompts taken out (at least one token is)."""
  shortest = min(len(prompt) for prompt, _ in pairs)
  stacked = np.stack([prompt[:shortest] for prompt, _ in pairs])
  same = (stacked == stacked[0]).all(axis=0)
  common = max(int(np.argmin(same)) if not same.all() else shortest, 1)
  if not same[0]:
    raise BadInput(
      "sft: prompts share not even their first token; use one template for all of them"
    )
  rests = [np.concatenate([prompt[common:], chain]) for prompt, chain in pairs]
  return Examples(stacked[0, :common], rests, [len(prompt) - common for prompt, _ in pairs])


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count)


def indices(count: int, size: int, step: int, seed: int) -> list[int]:
  """Examples of one batch: epochs of shuffled order, a pure function of the step."""
  places = (divmod(position, count) for position in range(step * size, (step + 1) * size))
  return [int(_order(count, seed, epoch)[offset]) for epoch, offset in places]


def cut(examples: Examples, config: SFTConfig, step: int, seed: int) -> list[list[int]]:
  """The examples of the accumulation slices of `step`, like lengths together."""
  chosen = indices(len(examples.rests), config.batch_size, step, seed)
  chosen.sort(key=lambda index: len(examples.rests[index]))
  size = config.micro_batch or config.batch_size
  return [chosen[first : first + size] for first in range(0, len(chosen), size)]


def width(examples: Examples, chosen: Sequence[int], bucket: int) -> int:
  """Padded length of a slice, tokens."""
  return -(-max(len(examples.rests[index]) for index in chosen) // bucket) * bucket


def compile(run: Run, phase: Phase, state: TrainState, examples: Examples) -> None:
  """Makes the programs of all steps that are left: the widths of their slices are known."""
  config = run.config.sft
  parts: dict[tuple[int, int], Sequence[int]] = {}  # by shape
  for step in range(phase.resume_step, config.steps):
    for part in cut(examples, config, step, run.config.seed):
      parts.setdefault((len(part), width(examples, part, config.length_bucket)), part)

  def make(part: Sequence[int]) -> None:
    phase.updater.compile(state, run.held.frozen, _on_device(run, examples, part))

  programs.together(functools.partial(make, part) for part in parts.values())


def slices(run: Run, examples: Examples, step: int) -> list[TrainBatch]:
  """The slices of `step` on the mesh."""
  parts = cut(examples, run.config.sft, step, run.config.seed)
  return [_on_device(run, examples, part) for part in parts]


def _on_device(run: Run, examples: Examples, chosen: Sequence[int]) -> TrainBatch:
  rests = [examples.rests[index] for index in chosen]
  wide = width(examples, chosen, run.config.sft.length_bucket)
  tokens_BC, end_B = batches.pad(rests, (wide,))
  slot_BC = np.arange(wide)[None]
  start_B = np.asarray([examples.starts[index] for index in chosen])
  mask_BC = (slot_BC >= start_B[:, None]) & (slot_BC < end_B[:, None])
  shards = run.mesh.shape["data"] * run.mesh.shape["fsdp"]  # each computes the prefix for its rows
  rows = sharding.sharding(run.mesh, ("batch",))

  def put(array: np.ndarray) -> jax.Array:
    return distributed.to_device(array, rows)

  prefix_PT = np.repeat(examples.prefix[None], shards, axis=0)
  length_P = np.full(shards, len(examples.prefix), np.int32)
  prompt = Prompts(put(prefix_PT), put(length_P), put(np.arange(shards, dtype=np.int32)))
  zeros_B = put(np.zeros(len(chosen), np.float32))
  return TrainBatch(prompt, put(tokens_BC), put(mask_BC), zeros_B, None, None, None)


def _with_rate(rate: float, found: dict[str, Any]) -> dict[str, Any]:
  return found | {"lr": rate}


def train(run: Run, trainable: Any) -> Any:
  """Runs the warm start to its end (resuming where it stopped); returns the trainable parameters."""
  config = run.config.sft
  phase = Phase(run, "sft", config.steps, config.optim, None, config.every, config.steps)
  try:
    state = phase.begin(trainable)
    if phase.resume_step == config.steps:
      return state.params
    with run.clock.phase("load"):
      examples = load_examples(run)
    with run.clock.phase("sft"), jax.set_mesh(run.mesh):
      with run.clock.phase("compile"):
        compile(run, phase, state, examples)
      guard: AbstractContextManager = nullcontext()  # the first step makes what is small
      for step in range(phase.resume_step, config.steps):
        began, rate = time.perf_counter(), phase.learning_rate(step)
        batch = slices(run, examples, step)
        phase.tell()  # before the next update is queued: its gradients would lie beside these
        with guard:
          state, metrics, _ = phase.updater(state, run.held.frozen, batch)
        phase.tell_later(Late(step + 1, began, metrics, functools.partial(_with_rate, rate)))
        phase.end_step(step + 1, state)
        guard = programs.guarded()
    return state.params
  finally:
    phase.close()
