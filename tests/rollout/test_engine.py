"""More prompts than slots: a refilled slot gives every prompt the samples that it has without waiting."""

import jax
import numpy as np
import pytest
from sampler_cases import engine, policy, prompts, run, streamed

from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.rollout import engine as engines
from gtalign_jax.sections import MeshConfig

pytestmark = pytest.mark.usefixtures("shared_programs")
LENGTHS = (7, 12, 3, 9, 16, 5, 11)
EOS = tuple(range(0, 300, 9))  # a row has about one token in nine to end with
IDS = prompts(LENGTHS)


def check(handed, whole):
  ended = [each for part in handed for each in part]
  assert sorted(each.prompt for each in ended) == list(range(len(LENGTHS)))
  for each in ended:
    rows = slice(each.prompt * 4, each.prompt * 4 + 4)
    for name in ("tokens_BC", "mask_BC", "stopped_B"):
      np.testing.assert_array_equal(getattr(each.rollout, name), getattr(whole, name)[rows], name)
    np.testing.assert_allclose(each.rollout.logp_BC, whole.logp_BC[rows], atol=3e-6)


@pytest.mark.parametrize("layout", ["columns", "rows"])
@pytest.mark.parametrize("refill_batch", [1, 2])
def test_waiting_changes_no_sample(layout, refill_batch, monkeypatch):
  monkeypatch.setattr(engines, "REFILLS", 2 // refill_batch)  # of two slots
  waiting = engine(eos=EOS, layout=layout, slots=2)
  assert waiting.refill_batch == refill_batch
  whole = run(engine(eos=EOS, layout=layout, slots=7), IDS)
  count_PG = whole.mask_BC.sum(1).reshape(-1, 4)
  assert len(set(count_PG.max(1))) > 2  # prompts end at different times, so slots do too
  handed = streamed(waiting, IDS)
  assert len(handed) > 2
  check(handed, whole)


def test_rows_that_run_out_of_budget_make_room_too():
  # nothing ends a row early
  check(streamed(engine(slots=2), IDS), run(engine(slots=7), IDS))


def test_enough_slots_wait_for_nothing():
  handed = streamed(engine(eos=EOS, slots=8), IDS)
  assert len(handed) == 1
  check(handed, run(engine(eos=EOS, slots=7), IDS))


def test_a_long_answer_holds_its_own_slot_only():
  """Fewer segments run than batches would take that each wait for their longest row."""
  made = engine(eos=EOS, slots=2, segment=1)

  class Counted:
    """A program that counts its calls."""

    def __init__(self, program):
      self.program, self.calls = program, 0

    def result(self):
      return self

    def __call__(self, *args):
      self.calls += 1
      return self.program(*args)

  streamed(made, IDS)
  (key,) = (key for key in made.programs._made if key[0] == "decode")
  counted = made.programs._made[key] = Counted(made.programs[key])
  handed = streamed(made, IDS)
  longest_P = np.zeros(len(LENGTHS), int)
  for part in handed:
    for each in part:
      longest_P[each.prompt] = each.rollout.mask_BC.sum(1).max()
  in_batches = sum(longest_P[first : first + 2].max() for first in range(0, len(LENGTHS), 2))
  assert counted.calls < in_batches


def test_refilling_on_a_mesh():
  mesh = meshes.make(MeshConfig(data=2, fsdp=2), jax.devices()[:4])
  made = engine(eos=EOS, layout="rows", slots=4, mesh=mesh)
  assert made.refill_batch == 4  # one prompt for each part of the rows
  whole = run(engine(eos=EOS, layout="rows", slots=7), IDS)
  params = jax.device_put(policy().params, jax.NamedSharding(mesh, jax.P()))
  check(streamed(made, IDS, params=params), whole)
