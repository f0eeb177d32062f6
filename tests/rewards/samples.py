"""Chains for tests: a well-formed one with any part replaced."""

import json

CELLS = ("DQ_DA", "DQ_CQ", "DQ_AQ", "VQ_DA", "VQ_CQ", "VQ_AQ")
# DQ_DA is the welfare choice; DQ_AQ is Pareto-optimal too; the rest is dominated.
PAYOFF = {
  "DQ_DA": {"LLM": 4.0, "user": 3.0},
  "DQ_CQ": {"LLM": 1.0, "user": 1.0},
  "DQ_AQ": {"LLM": 2.0, "user": 3.5},
  "VQ_DA": {"LLM": 1.5, "user": 0.5},
  "VQ_CQ": {"LLM": 0.5, "user": 2.0},
  "VQ_AQ": {"LLM": 1.0, "user": 1.5},
}
PAYOFF_TEXT = json.dumps(PAYOFF)


def payoff(**cells):
  """PAYOFF as JSON, with cells replaced by (LLM, user)."""
  table = dict(PAYOFF)
  for cell, (llm, user) in cells.items():
    table[cell] = {"LLM": llm, "user": user}
  return json.dumps(table)


def constant(llm, user):
  return payoff(**dict.fromkeys(CELLS, (llm, user)))


def chain(
  thinking="The question is definite: DQ.",
  payoff=PAYOFF_TEXT,
  analyze="The sum is largest at DQ_DA.",
  response="Paris is the capital of France.",
):
  return (
    f"<thinking>{thinking}</thinking><payoff>{payoff}</payoff>"
    f"<analyze>{analyze}</analyze><response>{response}</response>"
  )


def row(completion=None, source="math-hard", truth="42", judge=1, **more):
  """A row of `gtalign score`; judge=... leaves the verdict to the judge."""
  made = {
    "id": "0",
    "data_source": source,
    "completion": chain() if completion is None else completion,
    "ground_truth": truth,
    "extra_info": {},
  }
  return made | ({} if judge is ... else {"judge_score": judge}) | more
