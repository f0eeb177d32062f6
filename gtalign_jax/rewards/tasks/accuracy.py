"""How often the rule judge was right, by kind of task: said wherever its verdicts are used."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gtalign_jax.rewards.tasks.builtin import TASKS

# (right, asked) on responses that were written after the rule. safety: tests/rewards/
# test_rules.py; the others: benchmarks/judges.py, the set `third`. docs/judges.md says more
MEASURED = {
  "math": (2315, 2316),
  "ambiguity": (749, 1007),
  "safety": (121, 141),
  "writing": (295, 400),
}
# the rule for passages is that for questions, half of it; nobody has measured it by itself
UNMEASURED = ("abg-coqa",)


def of_rules(sources: Iterable[str], own: Collection[str]) -> str:
  """One line on the verdicts of rules on these sources; own: sources of `rewards.tasks`."""
  found = {}
  for source in sorted(set(sources)):
    kind = TASKS[source].kind if source in TASKS and source not in own else source
    if kind in MEASURED and source not in UNMEASURED:
      right, asked = MEASURED[kind]
      # rounded down: one wrong verdict in 2,316 is no "100 %"
      found[kind] = f"{kind} {1000 * right // asked / 10} % of {asked}"
    else:
      found[source] = f"{source} not measured"
  return (
    "the judge is a set of rules and no model; verdicts that were right on responses written after "
    f"the rules: {', '.join(found.values())}"
  )
