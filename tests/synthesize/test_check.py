"""What makes a chain unfit to learn from."""

import json

import pytest

from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.synthesize import check
from gtalign_jax.types import CELLS


def text(cell="VQ_CQ", response="Which one?", best="VQ_CQ", kind="VQ", **changes):
  payoffs = {c: {"LLM": 1.0, "user": 1.0} for c in CELLS} | {best: {"LLM": 3, "user": 3}}
  parts = {
    "thinking": f"So {kind}.",
    "payoff": json.dumps(payoffs),
    "analyze": f"DQ_DA is worse than {cell}.",
    "response": response,
  } | changes
  return "".join(f"<{tag}>{value}</{tag}>" for tag, value in parts.items())


@pytest.mark.parametrize(
  ("chain", "fault"),
  [
    (text(), None),
    (text(payoff="{}"), "payoff_keys"),
    (text(analyze=""), "missing_block"),
    (text() + "!", "stray_text"),
    (text(cell="VQ_DA", response="So."), "choice"),
    (text(analyze="No cell."), "choice"),
    (text(cell="DQ_DA", response="So.", best="DQ_DA"), "choice"),  # not of the declared type's row
    (text(cell="DQ_DA", response="So.", best="DQ_DA", kind="DQ"), None),
    (text(response="I will not ask."), "carried_out"),
    (text(response="Which? Why?"), "carried_out"),
    (text(response="word " * 16 + "? Which one?"), "carried_out"),
  ],
)
def test_faults(chain, fault):
  assert check.fault(chain) == fault


def test_limits_come_from_the_config():
  chain = text(response="Nine words stand here before the one question comes. Which?")
  assert check.fault(chain) is None
  assert check.fault(chain, RewardConfig(cq_max_words=5)) == "carried_out"
