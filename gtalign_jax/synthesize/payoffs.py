"""The payoffs of label chains: they follow from what the record says of its request.

So the matrix says something of the prompt (FORMULAS section 13), and the chain's choice is what the
rule makes of it. The numbers are in `payoffs.toml`.
"""

from __future__ import annotations

import math
import random
import tomllib
from importlib import resources
from typing import Any

import numpy as np

from gtalign_jax.config import Config
from gtalign_jax.data import intents, prompts
from gtalign_jax.data.records import Record
from gtalign_jax.game import conditions, pricing
from gtalign_jax.synthesize.replies import Case, response
from gtalign_jax.types import CELLS
from gtalign_jax.wording import words

NOISE = 1  # tenths that a number lies off what its features make of it, at most
MOST = 49  # tenths: the end of the templates' scale, with sums of one digit
USUAL = 15  # words of a request, or of an answer, that move nothing
_TABLES = tomllib.loads(
  resources.files("gtalign_jax.synthesize").joinpath("payoffs.toml").read_text("utf-8")
)
# name -> effect [U, A, R] of one unit of the feature
_EFFECTS = {
  name: np.array([table[cell] for cell in CELLS], float).reshape(2, 3, 2)
  for name, table in _TABLES.items()
}


def matrix(record: Record, case: Case, config: Config | None, rng: random.Random) -> np.ndarray:
  """int tenths of payoff [U, A, R] of the record.

  Under the prices that its condition states, else those of `rewards.pricing` in config.
  """
  noise = np.array([rng.randint(-NOISE, NOISE) for _ in range(12)]).reshape(2, 3, 2)
  parts = [size * _EFFECTS[name] for name, size in features(record, case).items()]
  tenths = np.clip(np.rint(_EFFECTS["base"] + sum(parts)) + noise, -MOST, MOST).astype(int)
  named = config.rewards.pricing if config else ""
  policy = conditions.prices(conditions.of(record.extra_info, record.id), named)
  if policy is None:
    return tenths
  written: Any = tenths / 10
  return np.rint(10 * np.asarray(pricing.apply(policy, written))).astype(int)


def features(record: Record, case: Case) -> dict[str, float]:
  """What the record says of its request, by the names of the effects.

  request, answer_words: -1 at no words, 0 at USUAL, 1 at 75, in logarithms. turn: 1 after an
  earlier turn. readings: those of a question beyond two, in halves, at most 1. And the kind of
  request, 1.
  """
  turns = prompts.conversation(record)[1]
  said = sum(words(turn["content"]) for turn in turns if turn["role"] == "user")
  known = len(intents.readings((record.ground_truth or "").partition("###")[2]))
  return {
    "request": _length(said),
    "answer_words": _length(words(response(case, "DA"))),
    "turn": float(len(turns) > 1),
    "readings": min(max(known - 2, 0) / 2, 1.0) if case.kind == "meanings" else 0.0,
    case.kind: 1.0,
  }


def _length(count: int) -> float:
  return min(math.log2(1 + 3 * count / USUAL) / 2 - 1, 1.0)
