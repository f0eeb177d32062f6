"""The log of one phase: time by activity, the transfer guard, and metrics one step late.

A step's metrics are on the device until its update has ended. Fetching them at once would leave the
device idle while the host prepares the next step, so they are kept as pending and flushed when the
next step's first work has been dispatched.
"""

from __future__ import annotations

import collections
import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.errors import RunFailure
from gtalign_jax.models.flops import matmul_gflops
from gtalign_jax.parallel import programs
from gtalign_jax.progress import Shown
from gtalign_jax.train import step_metrics
from gtalign_jax.train.services import Services
from gtalign_jax.train.setup import Setup
from gtalign_jax.types import Experience

# activities that the table of the whole run's time does not tell apart
CLOCK = {"sft": {"update": "sft"}, "grpo": {"logprob": "update"}}
# Judges are not guarded, because users' own tasks may compute what they like; nor is saving.
GUARDED = ("rollout", "logprob", "update")


class PendingMetrics(NamedTuple):
  """Metrics of a step that the device may still be computing.

  began: perf_counter at its start. metrics: device scalars. values: what the host knows already.
  seconds: by activity. work: None in the warm start.
  """

  step: int
  began: float
  metrics: Mapping[str, Any]
  values: dict[str, Any]
  seconds: dict[str, float]
  work: step_metrics.Work | None


class StepLog:
  """Books a phase's time and writes its lines; a host resource of the driver.

  name: "sft" or "grpo". progress: what is counted over the whole run, stored with each checkpoint.
  shown: how far the phase is.
  """

  def __init__(
    self,
    setup: Setup,
    services: Services,
    name: str,
    progress: dict[str, Any],
    shown: Shown,
  ):
    self._setup, self._services, self._name, self._progress = setup, services, name, progress
    self._shown = shown
    config = setup.config
    self._updates = 1 if name == "sft" else config.grpo.updates
    self._steps = (config.sft if name == "sft" else config.grpo).steps
    shown(shown.first, self._steps)
    shown.told = True
    self._pending: PendingMetrics | None = None
    self._began = self._flushed = time.perf_counter()
    self._seconds: dict[str, float] = collections.defaultdict(float)
    self._inner = 0.0  # seconds booked by blocks inside the one that is open
    self._warm = False
    # measured before the loop, where nothing is compiled
    self._peak = matmul_gflops(setup.config.policy.dtype) if name == "grpo" else 0.0

  def start(self) -> None:
    """A step begins."""
    self._began = time.perf_counter()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Books the time inside to `name`; an inner block takes its time away from the outer.

    Device work is guarded against tracing and unasked transfers once a first step has run.
    """
    guarded = self._warm and name in GUARDED
    guard = programs.guarded() if guarded else contextlib.nullcontext()
    booked = CLOCK[self._name].get(name, name)
    if not self._shown.doing.startswith(name):  # it may know more: rollout 3/8
      self.doing(name)
    began, outer, self._inner = time.perf_counter(), self._inner, 0.0
    try:
      with self._services.clock.phase(booked), guard:
        yield
    finally:
      took = time.perf_counter() - began
      self._seconds[name] += took - self._inner
      self._inner = outer + took

  def doing(self, what: str) -> None:
    """Tells what is being done, for the bar or the next line of progress."""
    self._shown.doing = what

  def step(
    self, step: int, metrics: Mapping[str, Any], experience: Experience | None = None
  ) -> None:
    """Keeps the metrics of a step (counted from 1) as pending; writes its samples.

    metrics: on the device; of each, one number or one for every update of the step.
    """
    values: dict[str, Any] = {}
    work = None
    if experience is not None:
      services = self._services
      services.writer.samples(step, experience.rows)
      values |= step_metrics.rewards(experience) | services.environment.statistics()
      # host numbers only: what is pending holds no room on the device
      work = step_metrics.work(experience)
      values |= step_metrics.tokens(work, self._progress)
    seconds, self._seconds = self._seconds, collections.defaultdict(float)
    self._pending = PendingMetrics(step, self._began, metrics, values, seconds, work)
    self._warm = True

  def flush(self) -> None:
    """Waits for the pending metrics, if any, and writes their line."""
    if self._pending is None:
      return
    pending, self._pending = self._pending, None
    began = time.perf_counter()
    self.doing("update")
    with self._services.clock.phase(CLOCK[self._name].get("update", "update")):
      fetched = jax.device_get(dict(pending.metrics))
      found = {name: _of_step(name, value) for name, value in fetched.items()}
    now = time.perf_counter()
    self._inner += now - began  # not the time of the activity that it happens in
    pending.seconds["update"] += now - began
    values = found | pending.values | {"step_time": now - max(pending.began, self._flushed)}
    # none while a critic learns alone
    values["skipped"] = self._skipped(
      int(found.get("skipped_updates", self._progress.get("skipped", 0)))
    )
    values["timing_s/checkpoint"] = self._seconds.pop("checkpoint", 0.0)
    if pending.work is not None:
      values |= step_metrics.throughput(self._setup, pending.work, pending.seconds, self._peak)
    self._flushed = now
    self._shown(pending.step, self._steps)
    self._services.writer.write(self._name, pending.step, values, self._steps, self._shown.left())
    self._check_skipped(pending.step, values)

  def _skipped(self, total: int) -> int:
    """Updates that this step skipped. total: of the phase so far.

    Their number in a row goes into the checkpoints, so that a restart does not count anew.
    """
    skipped = total - self._progress.get("skipped", 0)
    row = self._progress.get("skipped_in_a_row", 0) + skipped
    self._progress |= {
      "skipped": total,
      "skipped_in_a_row": row if skipped >= self._updates else 0,
    }
    return skipped

  def _check_skipped(self, step: int, values: Mapping[str, Any]) -> None:
    """Raises RunFailure, on all processes alike, where the phase has stopped to learn."""
    config, row = self._setup.config, self._progress["skipped_in_a_row"]
    # One bad batch may give a gradient that is not finite; some in a row say that the parameters or
    # a coefficient are out of range, and then all others would follow.
    # A phase that is shorter: all of its updates, or all but the one that broke the parameters
    limit = min(config.watch.skipped, max(self._steps * self._updates - 1, 1))
    if row < limit or not limit:
      return
    found = [name for name in ("loss", "kl", "grad_norm") if not math.isfinite(values.get(name, 0))]
    lower = f"optim.lr={config.optim.lr}"
    if self._name == "sft":
      lower = f"sft.optim.lr={config.sft.optim.lr}"
    elif config.grpo.kl_coef:
      lower += f" or grpo.kl_coef={config.grpo.kl_coef}"
    raise RunFailure(
      f"{self._name} step {step}: {row} updates in a row were skipped, because they are not finite "
      f"({', '.join(found)}), and nothing is learned; lower {lower}, in another workdir=, or look "
      "at the model where the very first update was skipped"
    )


def _of_step(name: str, values: Any) -> float:
  """One number of those of a step's updates: of counts and rates the last, of maxima the largest.

  Of all others the mean, as in verl; a mini-batch that has no token in a block is left out there.
  """
  values = np.ravel(values)
  if name.startswith("block/") and not np.isnan(values).all():
    values = values[~np.isnan(values)]
  if name.rpartition("/")[2] == "lr":
    return float(str(values[-1]))  # f32: 0.001, not 0.0010000000474974513
  if name.endswith("skipped_updates"):
    return float(values[-1])
  return float(values.max() if name.endswith("/max") else values.mean(dtype=np.float64))
