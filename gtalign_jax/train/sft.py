"""The supervised warm start: token-mean cross entropy on label-grounded chains."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.data import batches
from gtalign_jax.errors import BadInput
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.synthesize import sft_data
from gtalign_jax.train.phase import Phase
from gtalign_jax.train.run import Run
from gtalign_jax.types import Prompts, TrainBatch

log = logging.getLogger(__name__)


class Examples(NamedTuple):
  """Tokenised supervision and the one shape that all of it is padded to.

  pairs: (prompt ids, completion ids). prompt_length, completion_length: padded tokens.
  """

  pairs: list[tuple[np.ndarray, np.ndarray]]
  prompt_length: int
  completion_length: int


def _round_up(length: int, multiple: int = 32) -> int:
  return -(-length // multiple) * multiple


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
  return Examples(
    pairs,
    _round_up(max(len(prompt) for prompt, _ in pairs)),
    _round_up(max(len(completion) for _, completion in pairs)),
  )


def indices(count: int, size: int, step: int, seed: int) -> list[int]:
  """Examples of one batch: epochs of shuffled order, a pure function of the step."""
  out = []
  for position in range(step * size, (step + 1) * size):
    epoch, offset = divmod(position, count)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    out.append(int(order[offset]))
  return out


def slices(run: Run, examples: Examples, step: int) -> list[TrainBatch]:
  """The batch of `step`, cut into accumulation slices and put on the mesh."""
  config = run.config.sft
  chosen = indices(len(examples.pairs), config.batch_size, step, run.config.seed)
  size = config.micro_batch or config.batch_size
  parts = [chosen[first : first + size] for first in range(0, len(chosen), size)]
  return [_on_device(run, examples, part) for part in parts]


def _on_device(run: Run, examples: Examples, chosen: Sequence[int]) -> TrainBatch:
  pairs = [examples.pairs[index] for index in chosen]
  tokens_PT, length_P = batches.pad([prompt for prompt, _ in pairs], (examples.prompt_length,))
  tokens_BC, count_B = batches.pad([chain for _, chain in pairs], (examples.completion_length,))
  mask_BC = np.arange(examples.completion_length)[None] < count_B[:, None]
  mine = distributed.share(len(pairs))
  rows = sharding.sharding(run.mesh, ("batch",))

  def put(array: np.ndarray) -> jax.Array:
    return distributed.to_device(array[mine], rows)

  prompt = Prompts(put(tokens_PT), put(length_P), put(np.asarray(chosen, np.int32)))
  zeros_B = np.zeros(len(pairs), np.float32)
  return TrainBatch(prompt, put(tokens_BC), put(mask_BC), put(zeros_B), None, None, None)


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
      for step in range(phase.resume_step, config.steps):
        began = time.perf_counter()
        batch = slices(run, examples, step)
        state, metrics, _ = phase.updater(state, run.held.frozen, batch)
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        values["lr"] = phase.learning_rate(step)
        values["step_time"] = time.perf_counter() - began
        run.writer.write("sft", step + 1, values)
        phase.save_if_due(step + 1, state)
    return state.params
  finally:
    phase.close()
