"""Damaged checkpoints: every kind is found, named in one line, and the step before it is used.

Real Orbax folders, damaged by hand; whole runs are damaged in test_damaged_run.py.
"""

import json
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.train import checkpoint, stored
from gtalign_jax.train.checkpoint import Checkpoints

LIKE = {"params": {"w": jnp.zeros((64, 8))}, "mu": jnp.zeros(512), "step": jnp.int32(0)}


def state(step):
  rng = np.random.default_rng(step)
  w, mu = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in ((64, 8), 512))
  return {"params": {"w": w}, "mu": mu, "step": jnp.int32(step)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The checkpoints of steps 2, 4 and 6."""
  folder = tmp_path_factory.mktemp("whole") / "grpo"
  with Checkpoints(folder, keep=3) as checkpoints:
    for step in (1, 2, 4, 6):
      checkpoints.progress = {"num_tokens": step}
      checkpoints.save(step, state(step))
  assert sorted(os.listdir(folder)) == ["2", "4", "6"]
  return folder


@pytest.fixture
def folder(whole, tmp_path):
  return shutil.copytree(whole, tmp_path / "grpo")


def restored(folder, **options):
  """(step, progress) that a start goes on from, after a look at the numbers."""
  with Checkpoints(folder, keep=2) as checkpoints:
    found = checkpoints.restore_latest(LIKE, **options)
    if found is None:
      return checkpoints.step, checkpoints.progress
    np.testing.assert_array_equal(found["params"]["w"], state(checkpoints.step)["params"]["w"])
    np.testing.assert_array_equal(found["mu"], state(checkpoints.step)["mu"])
    return checkpoints.step, checkpoints.progress


def warnings(caplog):
  """What was told since `caplog.clear()`; other tests may have asked for more than warnings."""
  return [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]


def all_files(step):
  return sorted(each for each in step.rglob("*") if each.is_file())


def test_every_file_of_a_step_but_orbaxs_own_has_a_digest(folder):
  found = json.loads((folder / "6" / stored.DIGESTS).read_text())
  without = {each.name for each in all_files(folder / "6") if each.parent == folder / "6"}
  assert without == {stored.DIGESTS, stored.MARK, "_CHECKPOINT_METADATA"}
  assert len(found) == len(all_files(folder / "6")) - len(without) > 5
  assert stored.newest(folder, thorough=True) == 6 and stored.steps(folder) == [6, 4, 2]


def flip(path, at):
  data = bytearray(path.read_bytes())
  data[at] ^= 1 << (at % 8)
  path.write_bytes(data)


def test_one_flipped_bit_anywhere_is_found(folder):
  step, places = folder / "6", 0
  for path in all_files(step):
    if path.parent == step and path.name != stored.DIGESTS:
      continue
    size = path.stat().st_size
    for at in {0, size // 2, size - 1} if size else ():
      flip(path, at)
      if path.name == stored.DIGESTS:  # white space between two numbers may change
        stored.fault(step)
      else:
        assert stored.fault(step) == f"{path.relative_to(step)} is not what was saved"
      flip(path, at)
      places += 1
  assert places > 15 and stored.fault(step) == ""


def shard(step):
  return max(all_files(step / "state"), key=lambda path: path.stat().st_size)


def empty(path):
  path.write_bytes(b"")


def cut(path):
  os.truncate(path, path.stat().st_size // 2)


def to_file(step):
  shutil.rmtree(step)
  step.write_text("6")


DAMAGE = {
  "a flipped byte in a shard": (lambda step: flip(shard(step), 9), "is not what was saved"),
  "a cut shard": (lambda step: cut(shard(step)), "bytes instead of"),
  "an empty shard": (lambda step: empty(shard(step)), "has 0 bytes instead of"),
  "a shard that is gone": (lambda step: shard(step).unlink(), "is missing"),
  "no manifest of ocdbt": (lambda step: (step / "state/manifest.ocdbt").unlink(), "is missing"),
  "metadata cut": (lambda step: cut(step / "state/_METADATA"), "bytes instead of"),
  "progress emptied": (lambda step: empty(step / "progress/metadata"), "bytes instead of"),
  "no state": (lambda step: shutil.rmtree(step / "state"), "state is missing"),
  "no progress": (lambda step: shutil.rmtree(step / "progress"), "progress is missing"),
  "never committed": (lambda step: (step / stored.MARK).unlink(), "was never completed"),
  "an empty folder": (lambda step: (shutil.rmtree(step), step.mkdir()), "was never completed"),
  "a file": (to_file, "it is no folder"),
  "a link to nowhere": (lambda step: (shutil.rmtree(step), step.symlink_to("gone")), "no folder"),
  "digests emptied": (lambda step: empty(step / stored.DIGESTS), "is not JSON"),
  "digests of nothing": (lambda step: (step / stored.DIGESTS).write_text("{}"), "is damaged"),
  "digests of another form": (
    lambda step: (step / stored.DIGESTS).write_text('{"state/_METADATA": 3}'), "is damaged"
  ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_step_is_one_line_and_the_one_before_it_is_used(folder, caplog, kind):
  damage, why = DAMAGE[kind]
  damage(folder / "6")
  assert restored(folder) == (4, {"num_tokens": 4})
  (line,) = warnings(caplog)
  assert line.startswith(f"{folder / '6'} is damaged (") and why in line and "\n" not in line
  assert line.endswith("now 6.damaged; going on from step 4")
  assert sorted(os.listdir(folder)) == ["2", "4", "6.damaged"]  # nothing is deleted
  caplog.clear()
  with Checkpoints(folder, keep=2) as checkpoints:  # and the step can be saved again
    checkpoints.save(6, state(6))
  assert sorted(os.listdir(folder)) == ["4", "6", "6.damaged"] and not warnings(caplog)


def test_strays_beside_sound_steps(folder, caplog):
  (folder / "999").mkdir()
  (folder / "1000").write_text("mine")
  (folder / "0012").mkdir()  # no name of a step
  (folder / "notes").write_text("mine")
  (folder / "8.orbax-checkpoint-tmp").mkdir()  # a kill in the middle of a save
  (folder / "8.orbax-checkpoint-tmp" / "x").write_text("half")
  assert restored(folder) == (6, {"num_tokens": 6})
  assert [line.partition(" is damaged")[0] for line in warnings(caplog)] == [
    str(folder / "1000"), str(folder / "999")
  ]  # fmt: skip
  with Checkpoints(folder, keep=2) as checkpoints:  # strays do not count as kept
    checkpoints.save(8, state(8))
  names = {"0012", "1000.damaged", "999.damaged", "notes", "6", "8"}
  assert set(os.listdir(folder)) == names


def test_where_none_is_sound_nothing_is_moved_and_the_line_says_what_to_do(folder, caplog):
  for step in (2, 4, 6):
    flip(shard(folder / str(step)), 5)
  before = sorted(os.listdir(folder))
  with pytest.raises(BadInput) as caught:
    restored(folder)
  line = str(caught.value)
  assert line.startswith(f"{folder} holds no sound checkpoint (6: state/") and "4: state/" in line
  assert line.endswith("put one back, or remove the folder to begin the phase anew")
  assert sorted(os.listdir(folder)) == before and not warnings(caplog)
  assert restored(folder, anew=True) == (0, {}) and len(warnings(caplog)) == 3
  assert not stored.steps(folder)


def test_steps_of_before_digests(folder, caplog):
  """They are taken; what cannot be read or is not finite is found when it is read."""
  for step in (2, 4, 6):
    (folder / str(step) / stored.DIGESTS).unlink()
  assert restored(folder) == (6, {"num_tokens": 6})
  assert warnings(caplog) == [f"{folder / '6'} has no digests: its bytes are taken as they are"]
  caplog.clear()
  empty(shard(folder / "6"))
  (folder / "4" / "progress" / "metadata").write_text("[1]")
  assert restored(folder)[0] == 2
  assert [line.partition(" (")[0] for line in warnings(caplog) if "taken as" not in line] == [
    f"{folder / '6'} is damaged", f"{folder / '4'} is damaged"
  ]  # fmt: skip
  assert all("\n" not in line for line in warnings(caplog))


def test_numbers_that_are_not_finite(folder, monkeypatch):
  bad = state(8) | {"mu": jnp.full(512, jnp.inf)}
  refused = pytest.raises(RunFailure, match="grpo step 8: parameters or moments are not finite")
  with refused, Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(8, bad)
  monkeypatch.setattr(checkpoint, "is_finite", lambda tree: True)  # an older version saved them
  with Checkpoints(folder, keep=2) as checkpoints:
    checkpoints.save(8, bad)
  monkeypatch.undo()
  assert restored(folder)[0] == 6 and (folder / "8.damaged").is_dir()


def test_finding_a_policy_changes_nothing(folder, caplog):
  root = folder.parent
  assert stored.find(root, None) == (folder, 6)
  flip(shard(folder / "6"), 7)
  (folder / "999").mkdir()
  assert stored.find(root, None) == (folder, 4)
  assert [line.partition(" is damaged: ")[0] for line in warnings(caplog)] == [
    str(folder / "999"), str(folder / "6")
  ]  # fmt: skip
  assert stored.find(root, 2) == (folder, 2)
  with pytest.raises(BadInput, match=r"6: state/.* is not what was saved"):
    stored.find(root, 6)
  with pytest.raises(BadInput, match="holds no 3 checkpoint"):
    stored.find(root, 3)
  assert sorted(os.listdir(folder)) == ["2", "4", "6", "999"]


def test_the_best_is_saved_again_where_it_is_damaged(tmp_path):
  best = tmp_path / "best"
  for _ in range(2):
    checkpoint.save_params(best, 4, {"w": jnp.ones(8)}, {"best_step": 4})
    before = os.stat(best / "4").st_ino
  flip(shard(best / "4"), 3)
  checkpoint.save_params(best, 4, {"w": jnp.ones(8)}, {"best_step": 4})
  assert sorted(os.listdir(best)) == ["4", "4.damaged"] and os.stat(best / "4").st_ino != before
  checkpoint.save_params(best, 9, {"w": jnp.ones(8)}, {"best_step": 9})
  checkpoint.save_params(best, 6, {"w": jnp.ones(8)}, {"best_step": 6})  # after a step was lost
  assert sorted(os.listdir(best)) == ["4.damaged", "6"]


@pytest.mark.parametrize("gone", ["the phase", "the run"])
def test_a_folder_that_vanishes_is_one_line(tmp_path, gone):
  folder = tmp_path / "run" / "checkpoints" / "grpo"
  folder.parent.mkdir(parents=True)
  with pytest.raises(RunFailure, match="the folder is gone"), Checkpoints(folder, 2) as checkpoints:
    checkpoints.save(2, state(2))
    shutil.rmtree(folder if gone == "the phase" else tmp_path / "run")
    checkpoints.save(4, state(4))
