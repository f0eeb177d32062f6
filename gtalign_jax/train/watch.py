"""When a run says that it goes wrong: a table of rules over its GRPO lines, one warning an episode.

A rule compares means of `watch.window` steps, never single ones. A *fall* is measured from the best
earlier window, one that ended before the current one began. It counts where it is larger than the
rule's share of that mean, and than the noise: `SIGMAS` standard errors of the difference of two
means, where the variance of one step is half the mean squared change from step to step. A rule
warns when it begins to hold, and again only after it has not held for a whole window. All of this
follows from the lines themselves: a resumed run reads them back, and warns as an uninterrupted one
would have. `watch.skipped`, which ends the run on all processes, is applied in train/log.py.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gtalign_jax.sections import WatchConfig

# The best of all windows is held against the newest, again and again: in 300 steps of noise alone
# they come to differ by some 3.5 standard errors. At 5 none of 60 such runs warned, at 4 five did.
SIGMAS = 5


class Window(NamedTuple):
  """Steps, and the means of a rule's metrics over them."""

  first: int
  last: int
  mean: tuple[float, ...]


class Seen(NamedTuple):
  """What a rule decides on. best: the earlier window with the largest mean of the first metric,
  None where there is none. noise: of a difference of two means, by metric; no change is less."""

  now: Window
  best: Window | None
  noise: tuple[float, ...]


class Rule(NamedTuple):
  """key: of `WatchConfig`, the limit. says: what it means that the rule holds."""

  key: str
  metrics: tuple[str, ...]
  holds: Callable[[Seen, float], bool]
  says: str


def _fell(seen: Seen, limit: float) -> bool:
  if seen.best is None:
    return False
  before, fall = seen.best.mean[0], seen.best.mean[0] - seen.now.mean[0]
  return fall > limit * before and fall > seen.noise[0]


def _fell_while_the_other_rose(seen: Seen, limit: float) -> bool:
  if seen.best is None or not _fell(seen, limit):
    return False
  return seen.now.mean[1] - seen.best.mean[1] > seen.noise[1]


def _above(seen: Seen, limit: float) -> bool:
  return seen.now.mean[0] > limit


RULES = (
  Rule("distinct_fall", ("game/distinct_frac",), _fell, "the matrices become alike"),
  Rule("icc_fall", ("game/payoff_icc",), _fell, "the matrices depend less on the prompt"),
  Rule("parse_fall", ("chain/parse_rate",), _fell, "fewer chains can be read"),
  Rule(
    "answer_fall", ("rewards/answer/mean", "reward"), _fell_while_the_other_rose,
    "what is maximised is no longer earned by the answer",
  ),
  Rule("clipped", ("completions/clipped_ratio",), _above, "completions run out of budget"),
  Rule("kl", ("kl",), _above, "the policy is far from its start"),
)  # fmt: skip


Step = tuple[int, tuple[float, ...]]


class _Episode:
  """What one rule has seen."""

  def __init__(self, rule: Rule, window: int, limit: float):
    self._rule, self._size, self._limit = rule, window, limit
    # the current window, and the one before it, which the best one is chosen from
    self._steps: deque[Step] = deque(maxlen=2 * window)
    self._best: Window | None = None
    self._squares, self._changes = [0.0] * len(rule.metrics), 0
    self._quiet = window  # steps since the rule held; below a window it is still one episode

  def see(self, step: int, values: tuple[float, ...]) -> str | None:
    """Takes a step; the warning with which an episode begins."""
    if self._steps:
      changes = (new - old for new, old in zip(values, self._steps[-1][1]))
      self._squares = [sum_ + change**2 for sum_, change in zip(self._squares, changes)]
      self._changes += 1
    self._steps.append((step, values))
    if len(self._steps) < self._size:
      return None
    steps = list(self._steps)
    if len(steps) == 2 * self._size:
      before = _window(steps[: self._size])
      if self._best is None or before.mean[0] > self._best.mean[0]:
        self._best = before
    # half a squared change is the variance of a step; of a mean of n it is 1/n of that, twice
    each = (math.sqrt(square / self._changes / self._size) for square in self._squares)
    seen = Seen(_window(steps[-self._size :]), self._best, tuple(SIGMAS * error for error in each))
    if not self._rule.holds(seen, self._limit):
      self._quiet += 1
      return None
    begins, self._quiet = self._quiet >= self._size, 0
    return self._words(seen) if begins else None

  def _words(self, seen: Seen) -> str:
    """The rule, its numbers and their steps, in one line."""
    rule, (now, best, _) = self._rule, seen
    steps = f"steps {now.first} to {now.last}"
    if best is None or rule.holds is _above:
      told = [f"{name} is {mean:.3g}" for name, mean in zip(rule.metrics, now.mean)]
    else:
      told = [
        f"{name} {'fell' if mean < was else 'rose'} from {was:.3g} to {mean:.3g}"
        for name, was, mean in zip(rule.metrics, best.mean, now.mean)
      ]
      steps = f"steps {best.first} to {best.last} against {steps}"
    return f"{rule.says}: {', '.join(told)} ({steps}; watch.{rule.key}={self._limit:g})"


def _window(steps: Sequence[Step]) -> Window:
  columns = zip(*(values for _, values in steps))
  return Window(steps[0][0], steps[-1][0], tuple(map(statistics.fmean, columns)))


class Watch:
  """Looks at the lines of metrics.jsonl in their order."""

  def __init__(self, config: WatchConfig):
    limits = [(rule, getattr(config, rule.key)) for rule in RULES]
    self._episodes = [
      (rule, _Episode(rule, config.window, limit)) for rule, limit in limits if limit
    ]

  def see(self, phase: str, step: int, row: Mapping[str, Any]) -> list[str]:
    """Takes one line; the warnings of rules that begin to hold with it.

    A rule passes over lines in which one of its metrics is null, or which are not of GRPO.
    """
    if phase != "grpo":
      return []
    told = []
    for rule, episode in self._episodes:
      found = [row.get(name) for name in rule.metrics]
      values = tuple(float(each) for each in found if isinstance(each, (int, float)))
      if len(values) == len(found):
        told.append(episode.see(step, values))
    return [each for each in told if each is not None]
