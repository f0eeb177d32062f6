"""Lanes: a row is the same whoever is beside it, whenever it joins, and whatever it asks for."""

import jax
import numpy as np
import pytest
from sampler_cases import engine, policy, prompts, run

from gtalign_jax.parallel import programs, sharding
from gtalign_jax.rollout.lanes import Asked, Lanes

EOS = tuple(range(0, 300, 9))
IDS = prompts((7, 12, 3, 9, 16, 5))
OPTIONS = ({}, {"temperature": 0.0}, {"temperature": 1.7, "top_k": 20, "top_p": 0.9}) * 2


@pytest.fixture(scope="module")
def lanes():
  made = engine(eos=EOS, slots=3, segment=2, group_size=1, buckets=(8, 16))
  key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
  return Lanes(made, policy().params, key)


def asked(index, budget=12):
  return Asked(IDS[index], index, budget, **OPTIONS[index])


def alone(index, budget=12):
  """(tokens, log-probabilities, whether it stopped) of a row by an engine that has nothing else."""
  made = engine(eos=EOS, slots=1, group_size=1, budget=budget, **OPTIONS[index])
  out = run(made, [IDS[index]], row_P=np.asarray([index]))
  mask = out.mask_BC[0]
  return out.tokens_BC[0][mask], out.logp_BC[0][mask], out.stopped_B[0]


def drain(lanes, held, order, stopping=None):
  """Runs until `order` is worked off; index -> its row as it ended. stopping: cut at one token."""
  rows, waiting = {}, list(order)
  with programs.guarded():
    while held or waiting:
      empty = [lane for lane in range(lanes.count) if lane not in held]
      joining = dict(zip(empty, [waiting.pop(0) for _ in empty[: len(waiting)]]))
      lanes.fill(list(joining), [asked(index) for index in joining.values()])
      held |= joining
      out = lanes.read()
      for lane, index in list(held.items()):
        if out.done_B[lane] or index == stopping:
          count = out.count_B[lane]
          rows[index] = out.tokens_BC[lane, :count], out.logp_BC[lane, :count], out.stopped_B[lane]
          del held[lane]
          lanes.free([lane], out.done_B)
      if held:
        lanes.run(min_free=lanes.count - len(held) + 1)
  return rows


@pytest.mark.usefixtures("shared_programs")
def test_rows_are_what_they_are_alone(lanes):
  """Six rows through three lanes, under a guard against new programs; then in another order."""
  first = drain(lanes, {}, range(6))
  again = drain(lanes, {}, [5, 3, 1, 0, 4, 2], stopping=3)
  assert len(again.pop(3)[0]) == 1  # cut off at its first token, and its lane goes to another
  for rows in (first, again):
    for index, (tokens, logp, stopped) in rows.items():
      wanted = alone(index)
      np.testing.assert_array_equal(tokens, wanted[0])
      np.testing.assert_allclose(logp, wanted[1], atol=3e-6)
      assert stopped == wanted[2]


def test_budgets_are_of_each_row(lanes):
  with programs.guarded():
    lanes.fill([0, 1, 2], [Asked(IDS[0], 0, 1), Asked(IDS[0], 0, 5), Asked(IDS[0], 0, 12)])
    assert lanes.read().count_B.tolist() == [1, 1, 1]
    for _ in range(6):
      lanes.run(min_free=lanes.count + 1)
    out = lanes.read()
    lanes.free([0, 1, 2], out.done_B)
  assert out.done_B.all()
  length = len(alone(0)[0])
  assert out.count_B.tolist() == [1, min(length, 5), length]


def lasting(lanes, ids, budget, count, **options):
  """(number, what lane 1 writes) of a row that has no end within `count` tokens."""
  for number in range(99):
    lanes.fill([1], [Asked(np.asarray(ids, np.int32), number, budget, **options)])
    for _ in range(3):
      lanes.run(min_free=lanes.count + 1)
    out = lanes.read()
    lanes.free([1], out.done_B)
    if out.count_B[1] >= count:
      return number, out
  raise AssertionError("every row ends at once")


def test_an_amended_row_goes_on_as_from_its_new_prompt(lanes):
  """It is cut off in the middle and goes on from other tokens; the others do not care."""
  options = {"temperature": 1.3, "top_k": 20}
  with programs.guarded():
    first, before = lasting(lanes, IDS[5], 12, 7, **options)
    head = [*before.tokens_BC[1, :4].tolist(), 20, 30, 40]
    second, wanted = lasting(lanes, [*IDS[5], *head], 5, 4, **options)
    lanes.fill([0, 1, 2], [asked(0), Asked(IDS[5], first, 12, **options), asked(2)])
    for _ in range(3):
      lanes.run(min_free=lanes.count + 1)
    assert lanes.amend(1, head, 4, second)
    for _ in range(5):
      lanes.run(min_free=lanes.count + 1)
    found = lanes.read()
    lanes.free([0, 1, 2], found.done_B)
  new = slice(7, 7 + wanted.count_B[1])
  assert found.done_B.all() and found.count_B[1] == new.stop
  assert found.tokens_BC[1, :7].tolist() == head
  assert found.tokens_BC[1, new].tolist() == wanted.tokens_BC[1, : wanted.count_B[1]].tolist()
  np.testing.assert_allclose(
    found.logp_BC[1, new], wanted.logp_BC[1, : wanted.count_B[1]], atol=1e-5
  )
  for lane, index in ((0, 0), (2, 2)):
    assert found.tokens_BC[lane, : found.count_B[lane]].tolist() == alone(index)[0].tolist()


def test_what_an_amendment_cannot_hold_is_said(lanes):
  assert not lanes.amend(0, list(range(12)), 4, 1)  # over the budget
  assert not lanes.amend(0, [1, 2], 2, 1)  # nothing to add
