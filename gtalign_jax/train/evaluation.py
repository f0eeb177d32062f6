"""Evaluation of a policy during a run, on the held-out prompts."""

from __future__ import annotations

import functools
import json
import logging
import math
from typing import Any

import jax

from gtalign_jax import files, jsonl
from gtalign_jax.data.batches import Batch
from gtalign_jax.errors import BadInput
from gtalign_jax.parallel import distributed
from gtalign_jax.progress import progress
from gtalign_jax.rewards.reward import check_verdicts
from gtalign_jax.rollout import collect, intervene
from gtalign_jax.rollout import engine as engines
from gtalign_jax.train import checkpoint
from gtalign_jax.train import state as states
from gtalign_jax.train.checkpoint import Checkpoints
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup, heads, heads_engine
from gtalign_jax.types import Experience, TrainState

log = logging.getLogger(__name__)


def evaluate(
  setup: Setup, services: Services, name: str, params: Any, step: int
) -> dict[str, float]:
  """Evaluates a policy; writes `eval/<name>.jsonl` and a line of metrics, and returns the metrics.

  params: of the state. step: GRPO steps done. Raises RunFailure, and writes nothing, where too few
  rows have a verdict.
  """
  rewards, engine = setup.config.rewards, services.evaluator
  test_set, edits = Batch(setup.test_set.records, setup.test_set.ids), heads(setup.config)
  with services.clock.phase("evaluation"), jax.set_mesh(setup.mesh):
    with services.clock.phase("compile"), progress(f"eval {name}: compiling"):
      shapes = states.decodable(setup, params)
      tables = engines.tables(engine, shapes, test_set.ids)
      if edits:
        tables += intervene.head_tables(heads_engine(setup, services.programs), shapes, edits)
      services.programs.compile([states.decode_table(setup, params), *tables])
    read = states.decode_params(setup, services.programs, params)
    with progress(f"eval {name}") as advance:
      found = collect.evaluate(
        engine, read, test_set, setup.eval_key, services.environment, advance=advance
      )
    rows = _edited(setup, services, found, read) if edits else found.rows
    check_verdicts(rows, rewards, f"evaluation of {name} at step {step}")
    summary = collect.summary(rows)
    if services.main:
      path = services.workdir / "eval" / f"{name}.jsonl"
      lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
      with files.disk(path):
        files.replace(path, lines)
    services.writer.write("eval", step, {"policy": name} | summary)
  return summary


def _edited(
  setup: Setup, services: Services, found: Experience, params: Any
) -> list[dict[str, Any]]:
  """The rows; those of the first prompts with the column of what their chains did when edited."""
  config, engine = setup.config, heads_engine(setup, services.programs)
  sampled = intervene.chains(found, engine.sampling.eos_ids)
  first = sampled[: config.eval.intervene_prompts * config.eval.group_size]
  go_on = functools.partial(intervene.completions, engine, params, setup.eval_key, intervene.STEP)
  columns = intervene.intervene(
    setup.tokenizer, first, go_on, config.rewards, config.seed, engine.buckets[-1]
  )
  edited = [row | {"intervention": each} for row, each in zip(found.rows, columns)]
  return [*edited, *found.rows[len(first) :]]


def evaluate_once(setup: Setup, services: Services, name: str, params: Any) -> None:
  """Evaluates a policy from before GRPO, unless an earlier start of this run has."""
  if not is_evaluated(setup, services, name):
    evaluate(setup, services, name, params, 0)


def is_evaluated(setup: Setup, services: Services, name: str) -> bool:
  """Whether a policy from before GRPO has its line of metrics and all of its rows."""

  def found() -> bool:
    if not services.writer.evaluated(0, name):
      return False
    path = services.workdir / "eval" / f"{name}.jsonl"
    try:
      rows, wanted = len(jsonl.read(path)), len(setup.test_set.ids) * setup.config.eval.group_size
    except BadInput as error:
      log.warning("%s; evaluating %s again", error, name)
      return False
    if rows != wanted:
      log.warning("%s: %d rows of %d; evaluating %s again", path, rows, wanted, name)
    return rows == wanted

  # the decision is the main process's: only it knows the file, and all must take the same path
  return distributed.agree(services.main and found())


def evaluate_and_keep_best(
  setup: Setup, services: Services, checkpoints: Checkpoints, state: TrainState, step: int
) -> None:
  """Evaluates the policy that GRPO has reached; keeps it if its welfare is the best so far."""
  welfare = evaluate(setup, services, "grpo", state.params, step)["rewards/welfare/mean"]
  if welfare > checkpoints.progress.get(
    "best_welfare", -math.inf
  ):  # NaN where no row has a verdict
    checkpoints.progress |= {"best_welfare": welfare, "best_step": step}
    with services.clock.phase("checkpoint"):
      folder = services.workdir / "checkpoints" / "best"
      checkpoint.save_params(folder, step, state.params, dict(checkpoints.progress))
