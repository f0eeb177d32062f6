"""Refilled lanes give every prompt the samples that it has without waiting."""

import jax
import numpy as np
import pytest
from sampler_cases import policy, prompts, run, sampler

from gtalign_jax.parallel import distributed, mesh, sharding
from gtalign_jax.rollout import refill
from gtalign_jax.sections import MeshConfig
from gtalign_jax.types import Prompts

LENGTHS = (7, 12, 3, 9, 16, 5, 11)
EOS = tuple(range(0, 300, 9))  # a row has about one token in nine to end with


def streamed(made, devices=None, lanes=2, at_once=1):
  """Ended prompts in the order in which they were handed over, list by list."""
  batch, params = prompts(LENGTHS), policy().params
  placed = mesh.make(MeshConfig(data=2, fsdp=2), devices) if devices else None

  def place(chosen, width):
    pad = [0] * (width - len(chosen))
    rows = [*chosen, *pad]
    out = Prompts(*(np.asarray(x)[rows] for x in batch))
    out.length_P[len(chosen) :] = 0
    if placed is None:
      return out
    split = sharding.sharding(placed, ("batch",))
    return distributed.to_device(out, Prompts(split, split, split))

  def go():
    return list(
      refill.stream(
        made, params, len(LENGTHS), place, lanes, at_once, jax.random.key(3), np.int32(0)
      )
    )

  if placed is None:
    return go()
  with jax.set_mesh(placed):
    return go()


def check(handed, whole):
  ended = [each for part in handed for each in part]
  assert sorted(each.prompt for each in ended) == list(range(len(LENGTHS)))
  for each in ended:
    rows = slice(each.prompt * 4, each.prompt * 4 + 4)
    for name in ("tokens_BC", "mask_BC", "stopped_B"):
      np.testing.assert_array_equal(getattr(each.rollout, name), getattr(whole, name)[rows], name)
    for name in ("logp_BC", "truncated_logp_BC"):
      np.testing.assert_allclose(getattr(each.rollout, name), getattr(whole, name)[rows], atol=3e-6)


@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("at_once", [1, 2])
def test_waiting_changes_no_sample(transposed, at_once):
  made = sampler(eos=EOS, transposed=transposed)
  whole = run(made, prompts(LENGTHS))
  count_PG = whole.mask_BC.sum(1).reshape(-1, 4)
  assert len(set(count_PG.max(1))) > 2  # prompts end at different times, so lanes do too
  handed = streamed(made, at_once=at_once)
  assert len(handed) > 2
  check(handed, whole)


def test_rows_that_run_out_of_budget_make_room_too():
  made = sampler()  # nothing ends a row early
  check(streamed(made), run(made, prompts(LENGTHS)))


def test_enough_lanes_wait_for_nothing():
  made = sampler(eos=EOS)
  handed = streamed(made, lanes=8)
  assert len(handed) == 1
  check(handed, run(made, prompts(LENGTHS)))


def test_a_long_answer_holds_its_own_lane_only():
  """Tokens of the clock: fewer than those of batches that each wait for their longest row."""
  made = sampler(eos=EOS)
  clocks = []
  segment = made.segment

  def counted(*args):
    state = segment(*args)
    clocks.append(int(state.clock))
    return state

  made.segment = counted
  handed = streamed(made)
  longest_P = np.zeros(len(LENGTHS), int)
  for part in handed:
    for each in part:
      longest_P[each.prompt] = each.rollout.mask_BC.sum(1).max()
  in_batches = sum(longest_P[first : first + 2].max() for first in range(0, len(LENGTHS), 2))
  assert clocks[-1] < in_batches


def test_refilling_on_a_mesh():
  made = sampler(eos=EOS, transposed=False)
  whole = run(made, prompts(LENGTHS))
  check(streamed(made, jax.devices()[:4], lanes=4, at_once=4), whole)
