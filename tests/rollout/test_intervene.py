"""Interventions: what scripted policies make of edited matrices; slots and batches change nothing."""

import functools
import math

import jax
import numpy as np
import pytest
from sampler_cases import engine, policy
from scripted import POLICIES, RESPONSES, encode, opening, rest, tenths, tokenizer

from gtalign_jax.game import payoff
from gtalign_jax.parallel import sharding
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, score
from gtalign_jax.rewards.summary import intervened
from gtalign_jax.rollout import edit, force, intervene
from gtalign_jax.rollout.intervene import Sampled

pytestmark = pytest.mark.usefixtures("shared_programs")
P, G = 8, 3
RULES = RewardConfig()


def chain(text, number=0, prompt="number 1"):
  return Sampled(f"p#{number}", number, np.asarray(encode(prompt), np.int32), encode(text))


def editable(matrix, thinking="So it is DQ.", cell=0):
  return intervene.editable(tokenizer(), chain(opening(matrix, thinking) + rest(cell)), RULES)


@functools.cache
def measured(name):
  """The metrics of a scripted policy's chains, P prompts with G samples each."""
  speak, rows, sampled = POLICIES[name], [], []
  for p in range(P):
    prompt = np.asarray(encode(f"number {p}"), np.int32)
    for g in range(G):
      ids = speak(prompt, p * G + g)
      sampled.append(Sampled(f"{p}#{g}", p * G + g, prompt, ids))
      rows.append(
        {
          "id": f"{p}#{g}", "data_source": "math-hard", "ground_truth": "2", "extra_info": {},
          "completion": tokenizer().decode(ids),
        }
      )  # fmt: skip

  def go_on(prompts, numbers):
    return [speak(*each) for each in zip(prompts, numbers, strict=True)]

  columns = intervene.intervene(tokenizer(), sampled, go_on, RULES, 0, 10**6)
  scored = score.score_rows(rows, RULES, judges.make(RULES.judge))
  scored = [row | {"intervention": each} for row, each in zip(scored, columns, strict=True)]
  return score.summarise(rows, scored)


@pytest.mark.parametrize("name", ["honest", "constant", "random"])
def test_a_chain_that_decides_by_its_matrix_follows(name):
  got = measured(name)
  assert [got[f"game/{key}"] for key in ("follow", "carry", "hold", "effect")] == [1.0] * 4


def test_the_matrices_of_scripted_policies():
  icc = {name: measured(name)["game/payoff_icc"] for name in ("honest", "constant", "random")}
  assert icc["honest"] == 1.0 and icc["constant"] == 0.0 and icc["random"] < 0.2
  assert measured("random")["game/distinct_frac"] == 1.0


def test_a_chain_that_ignores_its_matrix_shows_no_effect():
  """The blind one names one cell a prompt, by which some edits would go: a' is never that cell."""
  blind, noisy = measured("blind"), measured("noisy")
  assert (blind["game/follow"], blind["game/hold"], blind["game/effect"]) == (0.0, 1.0, 0.0)
  assert 0.1 < noisy["game/follow"] < 0.6 and noisy["game/effect"] < 0.1


def test_neither_the_named_nor_the_done_action_is_drawn():
  """A chain that names CQ and answers: after a swap to DA its answer would seem carried out."""
  said = rest(1).replace(RESPONSES["CQ"], RESPONSES["DA"])
  for seed in range(20):
    found = intervene.editable(tokenizer(), chain(opening(tenths(seed)) + said), RULES)
    assert (found.named, found.done) == (1, 0)
    assert intervene.drawn(found, seed) in (2, None)


def test_what_names_no_action_has_none_to_hold():
  edited = {"chosen": "DQ_DA", "edited": "DQ_CQ", "named": None, "action": None}
  rows = [
    {"id": f"{n}#0", "intervention": edited | {"own": own, "placebo": [placebo]}}
    for n, (own, placebo) in enumerate([(None, None), ("DQ_DA", "DQ_DA"), ("DQ_DA", None)])
  ]
  found = intervened(rows)
  assert found["hold"] == 0.5 and found["n"] == 3 and found["follow"] == 0.0


def test_nothing_to_edit_is_nan():
  texts = ["no chain", opening(np.zeros((2, 3, 2), int)) + rest(0), opening(tenths(1))[:-2]]
  chains = [chain(text, n) for n, text in enumerate(texts)]
  found = intervene.intervene(
    tokenizer(), chains, lambda prompts, _: [[]] * len(prompts), RULES, 0, 10**6
  )
  assert found == [None] * 3
  long = intervene.intervene(
    tokenizer(), [chain(opening(tenths(1)) + rest(0))], lambda prompts, _: [], RULES, 0, 100
  )
  assert long == [None]
  nothing = intervened([{"id": "p#0", "intervention": None}])
  assert nothing["n"] == 0 and math.isnan(nothing["follow"])


def test_the_swap_makes_the_drawn_cell_the_choice_and_draws_differ():
  drawn = set()
  for seed in range(8):
    found = editable(tenths(3), cell=1)
    other = intervene.drawn(found, seed)
    assert found.choice(found.swapped(other)) == other and other // 3 == found.chosen // 3
    assert other not in (found.chosen, 1)
    drawn.add(other)
  free = editable(tenths(3), cell=editable(tenths(3)).chosen)
  assert {intervene.drawn(free, seed) for seed in range(8)} == {0, 1, 2} - {free.chosen}
  ties = np.zeros((2, 3, 2), int)  # pairs that are equal cannot trade places
  assert intervene.drawn(editable(ties), 0) is None


@pytest.mark.parametrize(("thinking", "kind"), [("DQ.", 0), ("VQ.", 1), ("Hm.", -1)])
def test_each_action_can_be_forced(thinking, kind):
  for seed in range(12):
    found = editable(tenths(seed), thinking)
    for action in range(3):
      matrix = force.forced(found, action)
      cell = int(payoff.choose(matrix, kind))
      assert cell % 3 == action and (kind < 0 or cell // 3 == kind)
      sums = matrix.sum(-1).reshape(6)
      rivals = [c for c in range(6) if c != cell and (kind < 0 or c // 3 == kind)]
      assert sums[cell] - max(sums[rivals]) >= 2 - 1e-9
      assert matrix.max() <= found.payoff_UAR.max() and np.allclose(matrix, np.round(matrix, 1))


def test_an_opening_ends_with_the_token_that_completes_it():
  ids = encode(opening(tenths(0)) + rest(0))
  cut = edit.opening_of(tokenizer(), ids)
  assert ids[: len(cut)] == cut and tokenizer().decode(cut) == opening(tenths(0))
  assert edit.opening_of(tokenizer(), ids[:20]) == ids[:20]


def test_slots_refills_and_batches_change_nothing():
  """On the tiny model: chains of any kind go on alike, however many there are at once."""
  chains = [chain(opening(tenths(n)) + rest(n % 3), n, f"number {n}") for n in range(5)]

  def found(slots, part=slice(None)):
    base = engine(slots=slots, buckets=(16,), eos=range(0, 300, 9), budget=5)
    made = intervene.continuing(base, (500,), 9)._replace(slots=slots)
    key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
    go_on = functools.partial(intervene.completions, made, policy().params, key, 1)
    with jax.set_mesh(made.programs.mesh):
      return intervene.intervene(tokenizer(), chains[part], go_on, RULES, 0, made.buckets[-1])

  whole = found(16)
  assert found(4) == whole
  assert [*found(4, slice(2)), *found(4, slice(2, None))] == whole
  ends = [each["completion"].rpartition("</payoff>")[2] for each in whole]
  assert len(set(ends)) == 5  # other questions, other random numbers
