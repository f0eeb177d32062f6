"""Rows that go on from branches of their prompt: as from whole prompts, but for the prefill."""

import jax
import numpy as np
import pytest
from sampler_cases import engine, prompts, run

from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.rollout import intervene
from gtalign_jax.sections import MeshConfig

pytestmark = pytest.mark.usefixtures("shared_programs")
EOS = tuple(range(0, 300, 9))  # a row has about one token in nine to end with
IDS = prompts((7, 12, 3, 9, 5))
NUMBERS = np.array([3, 0, 7, 1, 4], np.int32)
TAILS = [each.tolist() for each in prompts((4, 1, 8, 6, 2, 8, 3, 5))]
# of each prompt two rows, or one; some go on from the prompt itself
BRANCHES = [TAILS[:2], [[], TAILS[2]], [TAILS[3], TAILS[4]], [TAILS[5]], [TAILS[6], []]]


def plain(layout):
  """The same rows as prompts of their own."""
  pairs = [(p, tail) for p, tails in enumerate(BRANCHES) for tail in tails]
  whole = [np.array([*IDS[p], *tail], np.int32) for p, tail in pairs]
  made = engine(eos=EOS, layout=layout, slots=len(whole), buckets=(32,), group_size=1)
  return run(made, whole, row_P=NUMBERS[[p for p, _ in pairs]])


def branched(layout, slots, mesh=None):
  made = engine(eos=EOS, layout=layout, slots=slots, group_size=2, mesh=mesh)._replace(branch=8)
  return run(made, IDS, row_P=NUMBERS, branches=BRANCHES)


def check(found, whole):
  runs = np.array([[True] * len(tails) + [False] * (2 - len(tails)) for tails in BRANCHES])
  assert not found.mask_BC[~runs.ravel()].any()  # where there is no branch, nothing runs
  for name in ("tokens_BC", "mask_BC", "stopped_B"):
    np.testing.assert_array_equal(getattr(found, name)[runs.ravel()], getattr(whole, name), name)
  np.testing.assert_allclose(found.logp_BC[runs.ravel()], whole.logp_BC, atol=3e-6)


def test_a_branch_goes_on_as_the_whole_prompt_does():
  """Two slots are refilled at any clock, so what a branch wrote lies anywhere in the ring."""
  whole = plain("columns")
  for slots in (5, 2):
    check(branched("columns", slots), whole)
  mesh = meshes.make(MeshConfig(data=2, fsdp=1, tensor=2), jax.devices()[:4])
  check(branched("rows", 2, mesh), whole)


def test_rows_fork_where_they_differ():
  rows = [np.array(each) for each in ([1, 2, 3, 4], [1, 2, 5], [1, 2])]
  stem, tails = intervene.forked(rows)
  assert (stem.tolist(), [each.tolist() for each in tails]) == ([1, 2], [[3, 4], [5], []])
  stem, tails = intervene.forked(rows[:1] * 2)  # the same row twice: nothing differs
  assert (stem.tolist(), [each.tolist() for each in tails]) == ([1, 2, 3, 4], [[], []])
