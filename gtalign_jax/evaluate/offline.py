"""`gtalign generate` and `gtalign eval`: a policy over a file of prompts, resumable, in order."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax import models, progress
from gtalign_jax.config import Config
from gtalign_jax.data import prompts
from gtalign_jax.data.batches import Batch
from gtalign_jax.data.records import Record
from gtalign_jax.evaluate import partial
from gtalign_jax.models.variants import Arch
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.mesh import row_shards
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.progress import Advance
from gtalign_jax.rewards.reward import check_verdicts
from gtalign_jax.rollout import collect, constrain, force, generate, intervene, stop
from gtalign_jax.rollout.engine import Engine, with_turns
from gtalign_jax.rollout.talk import Environment, environment
from gtalign_jax.types import Experience

log = logging.getLogger(__name__)
BUCKETS = (128, 256, 512, 1024, 2048, 4096)  # padded prompt lengths where no config names them
WIDTH = 8  # prompts decoded at once where rollout.prompts_at_once does not say
ROWS_CPU = 32  # and at least so many rows: weights are read once a token, whatever their number
ROWS = 64, 256  # or on accelerators rows from the first, which take the time of 8, to the second
SHARE = 0.5  # of the memory that weights leave, for the caches of rows; programs need some, too
CHUNK = 32  # prompts written together, or as many as are decoded at once


class Options(NamedTuple):
  """How completions are sampled. ignore_eos: only the budget ends a row (for benchmarks).

  intervene, force: whether chains also go on from other matrices (rollout/intervene.py, force.py).
  versions: so many prompts in a row are one under other conditions, and draw the same numbers.
  """

  group_size: int
  temperature: float
  seed: int
  ignore_eos: bool = False
  intervene: bool = False
  force: bool = False
  versions: int = 1

  def named(self) -> dict[str, Any]:
    """What makes two jobs differ; what is off is left out, so that older files keep their job."""
    off = {"intervene": False, "force": False, "versions": 1}
    return {k: v for k, v in self._asdict().items() if v != off.get(k)}


class Job:
  """A loaded policy with its engine and, where rows are scored, a judge; a context manager."""

  def __init__(self, config: Config, options: Options, scored: bool, verdicts: Path | None = None):
    """verdicts: folder of the judge's cache, where the config names none."""
    self.config, self.options = config, options
    self.mesh = meshes.make(config.mesh)
    alone = sharding.replicated(self.mesh)
    # jitted: a process cannot put an array on the devices of others
    self.key = jax.jit(lambda: jax.random.key(options.seed), out_shardings=alone)()
    policy = models.load(config.model, dtype=config.policy.dtype, mesh=self.mesh)
    self.params, self.tokenizer = policy.params, policy.tokenizer
    self._stack = contextlib.ExitStack()
    form = config.chain.form
    self.environment = Environment(config.rewards, data=config.data, form=form)
    if scored:
      met = environment(config.rewards, config.conversation, config.data, verdicts, form=form)
      self.environment = self._stack.enter_context(met)
    ends = () if options.ignore_eos else policy.eos_ids
    stops = () if options.ignore_eos else config.rollout.stop
    sampling = generate.sampling_of(
      config.rollout,
      policy.config,
      ends,
      policy.eos_ids[0],
      config.policy.dtype,
      group_size=options.group_size,
      temperature=options.temperature,
    )
    table = stop.stop_table(policy.tokenizer, stops, policy.config.vocab_size)
    table = distributed.to_device(table, alone)
    rows = ROWS_CPU if jax.default_backend() == "cpu" else _rows(policy, config)
    wanted = config.rollout.prompts_at_once or max(WIDTH, rows // options.group_size)
    shards = row_shards(self.mesh)
    slots, buckets = -(-wanted // shards) * shards, config.rollout.prompt_buckets
    compiled = Executables(self.mesh)
    self.chunk = max(CHUNK, slots)
    constraint = constrain.constraint(
      policy.tokenizer, policy.config.vocab_size, config.budgets, alone
    )
    engine = Engine(
      sampling, table, policy.tokenizer, slots, buckets, compiled, constraint=constraint
    )
    self.engine = with_turns(engine, self.environment.conversation, self.chunk)

  def __enter__(self) -> Job:
    return self

  def __exit__(self, *_: object) -> None:
    self._stack.close()

  def encode(self, records: Sequence[Record]) -> prompts.Encoded:
    """Tokenises; over-long prompts are left out with a warning that counts them."""
    config = self.config
    encoded = prompts.encode(records, self.tokenizer, config.data, form=config.chain.form)
    if encoded.left_out:
      limit = self.config.data.max_prompt_tokens
      log.warning("left out %d of %d prompts over %d tokens", encoded.left_out, len(records), limit)
    return encoded

  def chunks(
    self, encoded: prompts.Encoded, first: int = 0, advance: Advance = lambda done, total: None
  ) -> Iterator[list[dict]]:
    """Rows of so many prompts at a time, from prompt number `first` on, in order.

    advance: told of each prompt whose first turns have ended, which a chunk may take long to have.
    Raises RunFailure where too few of a chunk have a verdict; a job goes on from there.
    """
    for start in range(first, len(encoded.ids), self.chunk):
      part = slice(start, start + self.chunk)
      batch = Batch(encoded.records[part], encoded.ids[part])
      with jax.set_mesh(self.mesh):
        number_P = (start + np.arange(len(batch.ids))) // self.options.versions
        found = collect.evaluate(
          self.engine, self.params, batch, self.key, self.environment, number_P=number_P,
          advance=progress.part(advance, start, len(encoded.ids)),
        )  # fmt: skip
        rows = self._edited(found, batch, start)
      if self.environment.judge is not None:
        check_verdicts(rows, self.config.rewards, f"prompts from {start + 1} on")
      yield rows

  def _edited(self, found: Experience, batch: Batch, first_row: int) -> list[dict[str, Any]]:
    """The rows, with the columns of what their chains did from other matrices, where asked for."""
    if not (self.options.intervene or self.options.force):
      return found.rows
    columns: dict[str, list[dict[str, Any] | None]] = {}
    sampled = intervene.chains(found, self.engine.sampling.eos_ids, first_row)
    heads = intervene.HEADS * self.chunk * self.options.group_size
    engine = intervene.continuing(self.engine, self.engine.buckets, heads)
    if self.options.intervene:
      go_on = functools.partial(
        intervene.completions, engine, self.params, self.key, intervene.STEP
      )
      rules, seed, longest = self.config.rewards, self.options.seed, engine.buckets[-1]
      columns["intervention"] = intervene.intervene(
        self.tokenizer, sampled, go_on, rules, seed, longest
      )
    if self.options.force:
      columns["forced"] = force.play(
        engine, self.params, batch, sampled, self.key, self.environment
      )
    return [
      row | {name: column[b] for name, column in columns.items()}
      for b, row in enumerate(found.rows)
    ]


def _rows(policy: models.Policy, config: Config) -> int:
  """Rows that an accelerator decodes at once, within ROWS: as many as its memory has room for."""
  device = jax.local_devices()[0]
  memory = device.memory_stats() or {}
  free = memory.get("bytes_limit", 0) - memory.get("bytes_in_use", 0)
  tokens = config.rollout.prompt_buckets[-1] + config.rollout.max_new_tokens
  size = np.dtype(jnp.dtype(config.policy.dtype)).itemsize
  room = SHARE * free // row_bytes(policy.config, tokens, size)
  return int(min(max(room, ROWS[0]), ROWS[1]))


def row_bytes(arch: Arch, tokens: int, size: int) -> int:
  """What decoding holds for a row: keys and values of so many tokens, logits and their draw in f32.

  size: bytes of a number of the cache. Layers that look back less far count as the others.
  """
  cache = 2 * arch.num_layers * arch.num_kv_heads * arch.head_dim * tokens * size
  return cache + 2 * 4 * arch.vocab_size


def config_for(model: str) -> Config:
  """The config of a command that names a model and prompts instead of a config file."""
  # 0 steps: it trains nothing, so that keys of training are refused as without effect
  base = Config(model=model, workdir="")  # there is no run, whose folder would hold a cache
  return dataclasses.replace(
    base,
    grpo=dataclasses.replace(base.grpo, steps=0),
    rollout=dataclasses.replace(base.rollout, prompt_buckets=BUCKETS),
    data=dataclasses.replace(base.data, max_prompt_tokens=BUCKETS[-1]),
    eval=dataclasses.replace(base.eval, group_size=1),
  )


class Writes(Protocol):
  """What `write` needs of a job: this module's `Job`, or that of a model behind an endpoint."""

  config: Config
  options: Options
  environment: Environment

  def chunks(
    self, encoded: prompts.Encoded, first: int, advance: Advance
  ) -> Iterator[list[dict]]: ...


def write(
  job: Writes,
  encoded: prompts.Encoded,
  out: Path,
  merge: Callable[[dict], dict],
  on_batch: Advance,
  overwrite: bool = False,
) -> list[dict]:
  """Writes all rows to `out`, as `partial.write` does. merge: completes a row before that."""
  scored = job.environment.judge is not None
  named = partial.job(job.config, job.options.named(), encoded, scored)

  def chunks(first: int) -> Iterator[list[dict]]:
    for rows in job.chunks(encoded, first, on_batch):
      yield [merge(row) for row in rows]

  size, count = job.options.group_size, len(encoded.ids)
  return partial.write(named, size, count, chunks, out, on_batch, overwrite)


def by_record(rows: Sequence[dict[str, Any]], records: Sequence[Record]) -> Callable[[dict], dict]:
  """`merge` for `write` that puts every field of the input row back."""
  raw = {record.id: row for record, row in zip(records, rows, strict=True)}
  return lambda row: raw[row["id"].rpartition("#")[0]] | row
