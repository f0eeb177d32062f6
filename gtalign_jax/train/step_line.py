"""The one line of a step for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# What the terminal's one line a step shows, where the step has it: (metric, short name, format).
# With the clock before it and the time left after it a line stays within 100 columns.
GAME = (
  ("W", "W", ".3f"),
  ("rewards/user/mean", "U", ".3f"),
  ("rewards/llm/mean", "L", ".3f"),
  ("chain/parse_rate", "parse", ".2f"),
  ("completions/mean_length", "len", ".0f"),
)
SHOWN = {
  "sft": (("loss", "loss", ".4f"), ("grad_norm", "grad", ".3f"), ("lr", "lr", ".1e")),
  "grpo": GAME,
  "eval": GAME,
}
# the second line of an evaluation: whether the matrix decides, and what there is to decide by
MATRIX = (
  ("game/follow", "follow", ".2f"),
  ("game/carry", "carry", ".2f"),
  ("game/hold", "hold", ".2f"),
  ("game/payoff_icc", "icc", ".2f"),
  ("game/type_accuracy", "type", ".2f"),
  ("game/sums_right", "sums", ".2f"),
)
ERRORS = ("game/calibration_error/user", "game/calibration_error/llm")


def describe(phase: str, step: int, metrics: Mapping[str, Any], of: int = 0, left: str = "") -> str:
  """The readable line of one step, at most 90 columns.

  of: steps of the phase. left: the time that they will take, as `progress.Shown.left` says it.
  """
  parts = [f"{phase} {step}/{of}" if of else f"{phase} {metrics.get('policy', '')} at {step}"]
  cells = _cells(SHOWN[phase], metrics)
  if metrics.get("skipped") or metrics.get("grad_norm", 0) is None:  # see optimizer.apply
    cells = [*cells[:1], "update skipped: gradient not finite"]
  parts += cells
  if metrics.get("step_time") is not None:
    parts.append(", ".join(filter(None, (f"{metrics['step_time']:.0f} s", left))))
  return "  ".join(parts)


def matrix(metrics: Mapping[str, Any]) -> str:
  """The second line of an evaluation, at most 90 columns; "" where no chain could be read.

  calib: mean calibration error of the numbers for user and LLM.
  """
  cells = _cells(MATRIX, metrics)
  errors = [metrics[key] for key in ERRORS if metrics.get(key) is not None]
  cells += [f"calib {sum(errors) / len(errors):.2f}"] if errors else []
  # chains of another form may say a type, but hold no matrix
  name = "matrix" if "game/payoff_icc" in metrics else "chain"
  return "  ".join([name, *cells]) if cells else ""


def _cells(shown: Sequence[tuple[str, str, str]], metrics: Mapping[str, Any]) -> list[str]:
  return [f"{n} {metrics[k]:{form}}" for k, n, form in shown if metrics.get(k) is not None]
