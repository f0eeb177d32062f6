"""The supervised warm start: token-mean cross entropy on label-grounded chains.

Reads like train/grpo.py and shares its update: slices, gradients, one guarded AdamW step.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from gtalign_jax.algorithms import optimizer
from gtalign_jax.algorithms.loss import Totals
from gtalign_jax.algorithms.update import gradient_step
from gtalign_jax.config import Config
from gtalign_jax.data import batches
from gtalign_jax.errors import BadInput
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Table, abstract
from gtalign_jax.progress import progress
from gtalign_jax.sections import SFTConfig
from gtalign_jax.synthesize import sft_data
from gtalign_jax.train import programs
from gtalign_jax.train.checkpoint import Checkpoints, committed, position
from gtalign_jax.train.log import StepLog
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup
from gtalign_jax.train.state import Optimizers, begin, end, is_due, save
from gtalign_jax.types import Prompts, TrainBatch, TrainState

log = logging.getLogger(__name__)


class Examples(NamedTuple):
  """Tokenised supervision.

  prefix: tokens that all prompts begin with (the instructions); computed once per slice, not once
  per row. rests: each example's remaining prompt and its chain in one array. starts: where the
  chain begins in it.
  """

  prefix: np.ndarray
  rests: list[np.ndarray]
  starts: list[int]


def train(setup: Setup, services: Services, state: TrainState) -> TrainState:
  """Runs the warm start from the parameters of `state`, or goes on from the newest checkpoint."""
  config, folder = setup.config.sft, services.workdir / "checkpoints" / "sft"
  with Checkpoints(folder, setup.config.checkpoint.keep) as checkpoints:
    optimizers = make_optimizers(setup.config)
    grpo = distributed.from_main(committed(services.workdir)["grpo"])
    # once GRPO has begun, only its reference is wanted from here, and that can be computed again
    state = begin(setup, state, optimizers, checkpoints, anew=grpo > 0)
    services.writer.resume(position(services.workdir, config.steps), back=True)
    if checkpoints.step < config.steps:
      if grpo:
        log.warning("computing the warm start again, as GRPO's reference; its lines are there")
      with services.clock.phase("load"), progress("sft: writing the chains"):
        examples = load_examples(setup)
      with services.clock.phase("sft"), jax.set_mesh(setup.mesh):
        with services.clock.phase("compile"), progress("sft: compiling"):
          services.programs.compile(tables(setup, optimizers, state, examples, checkpoints.step))
        with progress("sft", first=checkpoints.step) as shown:
          steps = StepLog(setup, services, "sft", checkpoints.progress, shown)
          state = _train(setup, services, checkpoints, steps, state, examples)
  return end(state)


def make_optimizers(config: Config) -> Optimizers:
  """That of the warm start."""
  return Optimizers(optimizer.make(config.sft.optim, config.sft.steps))


def _train(
  setup: Setup,
  services: Services,
  checkpoints: Checkpoints,
  log: StepLog,
  state: TrainState,
  examples: Examples,
) -> TrainState:
  config, compiled = setup.config.sft, services.programs
  for step in range(checkpoints.step, config.steps):
    log.start()
    parts, totals = batch_at(setup, examples, step)
    log.flush()  # before the next update is queued: its gradients would lie beside these
    with log.phase("update"):
      frozen = setup.fixed.frozen
      state, metrics = gradient_step(state, parts, totals, compiled, frozen, log, "sft_")
    log.step(step + 1, metrics)
    if is_due(step + 1, config.every, config.steps):
      save(services, checkpoints, log, state, step + 1)
    services.interrupts.check()
  return state


# ---------------------------------------------------------------- examples


def load_examples(setup: Setup) -> Examples:
  """Chains of `sft.data`, or synthesised from the training prompts."""
  config = setup.config.sft
  pairs, left_out = sft_data.examples(
    setup.train_set,
    setup.tokenizer,
    config,
    seed=setup.config.seed,
    data_config=setup.config.data,
    eos_ids=setup.eos_ids,
    config=setup.config,
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


# ---------------------------------------------------------------- slices


def cut(examples: Examples, config: SFTConfig, step: int, seed: int) -> list[list[int]]:
  """The examples of the slices of `step`, like lengths together."""
  chosen = indices(len(examples.rests), config.batch_size, step, seed)
  chosen.sort(key=lambda index: len(examples.rests[index]))
  size = config.micro_batch or config.batch_size
  return [chosen[first : first + size] for first in range(0, len(chosen), size)]


def width(examples: Examples, chosen: Sequence[int], bucket: int) -> int:
  """Padded length of a slice, tokens."""
  return -(-max(len(examples.rests[index]) for index in chosen) // bucket) * bucket


def tables(
  setup: Setup, optimizers: Optimizers, state: TrainState, examples: Examples, first: int
) -> list[Table]:
  """The programs of all steps from `first` on: the widths of their slices are known."""
  config, shapes = setup.config.sft, abstract(state)
  sizes = {
    (len(part), width(examples, part, config.length_bucket))
    for step in range(first, config.steps)
    for part in cut(examples, config, step, setup.config.seed)
  }
  prefix = len(examples.prefix)
  return [programs.sft_table(setup, optimizers, shapes, prefix, *size) for size in sorted(sizes)]


def batch_at(setup: Setup, examples: Examples, step: int) -> tuple[list[TrainBatch], Totals]:
  """The slices of `step` on the mesh, and the totals of all of them."""
  parts = cut(examples, setup.config.sft, step, setup.config.seed)
  chosen = [index for part in parts for index in part]
  tokens = sum(len(examples.rests[i]) - examples.starts[i] for i in chosen)
  alone = sharding.replicated(setup.mesh)
  totals = Totals(*map(np.int32, (tokens, len(chosen), len(chosen))))
  slices = [_on_device(setup, examples, part) for part in parts]
  return slices, distributed.to_device(totals, Totals(alone, alone, alone))


def _on_device(setup: Setup, examples: Examples, chosen: Sequence[int]) -> TrainBatch:
  rests = [examples.rests[index] for index in chosen]
  wide = width(examples, chosen, setup.config.sft.length_bucket)
  tokens_BC, end_B = batches.pad(rests, (wide,))
  slot_BC = np.arange(wide)[None]
  start_B = np.asarray([examples.starts[index] for index in chosen])
  mask_BC = (slot_BC >= start_B[:, None]) & (slot_BC < end_B[:, None])
  shards = row_shards(setup.mesh)  # each computes the prefix for its own rows
  rows = sharding.rows(setup.mesh)
  prefix_PT = np.repeat(examples.prefix[None], shards, axis=0)
  length_P = np.full(shards, len(examples.prefix), np.int32)
  prompt = Prompts(prefix_PT, length_P, np.arange(shards, dtype=np.int32))
  batch = TrainBatch(prompt, tokens_BC, mask_BC)
  return distributed.to_device(batch, jax.tree.map(lambda _: rows, batch))
