"""Checkpoints of a run (Orbax). The only module that imports orbax.

Layout under `<workdir>/checkpoints`: `sft/<step>` and `grpo/<step>` hold the whole state of a phase
(parameters, optimizer, counters) and its progress as JSON; `best/<step>` holds parameters alone. A
step becomes visible by one rename, with the digests of its files inside (train/stored.py), so a
process killed in the middle of a save leaves the previous step intact, and damage is noticed.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gtalign_jax import files, jsonl, models
from gtalign_jax.config import Config, from_dict
from gtalign_jax.errors import BadInput, RunFailure, first_line
from gtalign_jax.models import export, lora
from gtalign_jax.models.variants import Arch
from gtalign_jax.parallel import distributed
from gtalign_jax.train import stored
from gtalign_jax.train.stored import find, newest, none_sound

log = logging.getLogger(__name__)
FRAME = "policy"  # folder: architecture and tokenizer, so that a run needs its model's path no more
# orbax narrates every file that it writes; what goes wrong comes as an exception, too
logging.getLogger("absl").setLevel(logging.CRITICAL)


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
  """Turns whatever stops a save into one line; the newest complete checkpoint stays valid."""
  try:
    yield
  except RunFailure:
    raise
  except Exception as error:  # orbax and tensorstore wrap OSError in several ways
    text, code, why = str(error), getattr(error, "errno", None), first_line(error)
    if code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota" in text.lower():
      why = "no space left on the disk"
    elif code in (errno.EACCES, errno.EROFS) or "Permission denied" in text:
      why = "the folder is not writable"
    elif not directory.is_dir():
      why = "the folder is gone"
    raise RunFailure(
      f"could not save a checkpoint in {directory}: {why}; earlier checkpoints are intact, "
      "mend it and run the same command again"
    ) from error


class _Sealing(ocp.CompositeCheckpointHandler):
  """Puts the digests of a step's files into it, before the rename that makes it one."""

  def finalize(self, directory: Any) -> None:
    """Called on one process, when all of them have written."""
    super().finalize(directory)
    stored.seal(Path(directory))


@ocp.args.register_with_handler(_Sealing, for_save=True, for_restore=True)
class _Items(ocp.args.Composite):
  """Orbax finds a handler's arguments by their type."""


@jax.jit
def _all_finite(leaves: list[jax.Array]) -> jax.Array:
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(each)) for each in leaves]))


def is_finite(tree: Any) -> bool:
  """Whether no number in a pytree of arrays is NaN or infinite."""
  leaves = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
  return not leaves or bool(_all_finite(leaves))


class Checkpoints(AbstractContextManager):
  """The checkpoints of one phase; a host resource, close it (or use `with`).

  directory: folder of the phase. keep: how many newest steps stay. step: the one that the phase
  goes on from, 0 where there is none. progress: JSON that is stored with each step.
  """

  def __init__(self, directory: Path, keep: int):
    self.directory, self._keep = Path(directory).absolute(), keep
    self.progress: dict[str, Any] = {}
    self._main = distributed.is_main()
    handler = _Sealing(state=ocp.StandardCheckpointHandler(), progress=ocp.JsonCheckpointHandler())
    # on CPU a save in the background would copy the state within one memory, on the same cores
    beside = jax.default_backend() != "cpu"
    self._saver = ocp.AsyncCheckpointer(handler) if beside else ocp.Checkpointer(handler)
    if self._main:
      with _disk_errors(self.directory):
        self.directory.parent.mkdir(exist_ok=True)
        self.directory.mkdir(exist_ok=True)
        files.clean(self.directory, stored.TEMPORARY)
    found = stored.steps(self.directory) if self._main else []
    self.step = distributed.from_main(found[0] if found else 0)

  def __exit__(self, *_: object) -> None:
    self.close()

  def save(self, step: int, state: Any) -> None:
    """Starts writing `state` (a pytree of arrays) and the progress as `step`.

    Returns when the arrays are safe to donate; an earlier save that failed raises here. Raises
    RunFailure where the state is not finite: nothing could go on from it.
    """
    if not is_finite(state):
      raise RunFailure(
        f"{self.directory.name} step {step}: parameters or moments are not finite, so they are not "
        "saved; lower the learning rate, in another workdir="
      )
    with distributed.uninterrupted(), _disk_errors(self.directory):
      self.wait()
      if not self.directory.is_dir():  # orbax would make it again, in a run that is gone
        raise FileNotFoundError(self.directory)
      there = self.directory / str(step)
      if self._main and (there.exists() or there.is_symlink()):
        files.set_aside(there, "not a step of this run", "it is saved anew")
      distributed.from_main(0)  # all look whether the place is free, when it is
      self._saver.save(
        there,
        args=_Items(state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(self.progress)),
      )
      self.step = step
      if not isinstance(self._saver, ocp.AsyncCheckpointer):
        self._drop_old()

  def wait(self) -> None:
    """Blocks until the save under way is complete; raises what went wrong with it."""
    with distributed.uninterrupted(), _disk_errors(self.directory):
      if isinstance(self._saver, ocp.AsyncCheckpointer):
        self._saver.wait_until_finished()
        self._drop_old()

  def _drop_old(self) -> None:
    """Removes the steps beyond those that are kept, and touches nothing that is no step."""
    if not self._main:
      return
    # the one just saved first: among the best there may be one of a later step that was lost
    steps = sorted(stored.steps(self.directory), key=lambda step: step != self.step)
    folders = [self.directory / str(step) for step in steps]
    whole = [each for each in folders if not stored.fault(each, thorough=False)]
    for each in whole[self._keep :]:
      shutil.rmtree(each, ignore_errors=True)

  def restore_latest(self, like: Any, anew: bool = False) -> Any:
    """The newest sound state, onto the shapes, dtypes and shardings of `like`; the progress too.

    Onto ours, never onto the checkpoint's own: it may have been written on another mesh. Steps that
    are damaged are told and set aside. Where none is sound: None if the phase may begin `anew`,
    else raises BadInput, and all of them stay.
    """
    faults: dict[int, str] = {}
    while step := distributed.from_main(
      (newest(self.directory, thorough=True, faults=faults) or 0) if self._main else 0
    ):
      folder = self.directory / str(step)
      state, why = _read(folder, like)
      try:
        progress = stored.progress(folder)
      except BadInput as error:
        why = why or str(error)
      if distributed.everywhere(not why):
        if self._main and not (folder / stored.DIGESTS).exists():
          log.warning("%s has no digests: its bytes are taken as they are", folder)
        self._set_aside(faults, f"going on from step {step}")
        self.step, self.progress = step, progress
        return state
      faults |= {step: why or "another process cannot read it"} if self._main else {}
    if not anew:
      raise BadInput(none_sound(self.directory, faults))
    self._set_aside(faults, "beginning anew")
    self.step = 0

  def _set_aside(self, faults: Mapping[int, str], instead: str) -> None:
    for step, why in faults.items():
      files.set_aside(self.directory / str(step), why, instead)

  def close(self) -> None:
    """Finishes the save under way and releases threads."""
    try:
      self.wait()
    finally:
      self._saver.close()


def _read(step: Path, like: Any, part: bool = False) -> tuple[Any, str]:
  """(what a step stores, onto the tree `like`; "") or (None, why it cannot be used).

  part: `like` is a part of what is stored, and no more is read.
  """
  places = ocp.checkpoint_utils.construct_restore_args(like)
  args = ocp.args.PyTreeRestore(item=like, restore_args=places, partial_restore=part)
  try:
    with ocp.PyTreeCheckpointer() as reader:
      found = reader.restore(step / "state", args=args)
  except Exception as error:  # whatever it is: the step before may be better
    # tensorstore: "… See full TensorStore details: <bound method …>"
    return None, first_line(error).partition(". See full")[0]
  return (found, "") if is_finite(found) else (None, "its numbers are not finite")


def save_params(directory: Path, step: int, params: Any, progress: dict[str, Any]) -> None:
  """Writes parameters alone as the only step of `directory` (the best policy so far)."""
  with Checkpoints(directory, keep=1) as checkpoints:
    if not distributed.agree(newest(directory, thorough=True) == step):
      checkpoints.progress = progress
      checkpoints.save(step, params)


class Stored(NamedTuple):
  """A policy as a checkpoint holds it.

  workdir: of the run. config: model and policy alone. frame: the policy without `params`, with the
  base's weights under adapters. params: all parameters, or the adapters. phase: the folder that it
  was in: grpo, sft or best.
  """

  workdir: Path
  config: Config
  frame: models.Policy
  params: Any
  phase: str
  step: int


def load_stored(workdir: str | Path, which: str | int | None = None, base: bool = True) -> Stored:
  """What a run stored; arguments as in `find`.

  workdir: the run's work directory, or its checkpoints folder. base: whether adapters come with the
  weights that they belong to. Raises BadInput where it is neither, or was written by a version
  whose policy had other keys, or all is damaged.
  """
  root = Path(workdir).absolute()
  root = root.parent if root.name == "checkpoints" else root
  told = root / "config.json"
  if not told.is_file():
    raise BadInput(f"{workdir} is no work directory: it has no config.json; pass a run's workdir=")
  faults: dict[int, str] = {}
  directory, step = find(root / "checkpoints", which, faults)
  nested = jsonl.read_object(told)
  # only what is needed here, so that a run of an older version can be read
  config = from_dict({key: nested[key] for key in ("model", "policy") if key in nested}, told)
  frame = _frame(root, config, base)
  like = frame.params
  if config.policy.lora_rank:
    like = jax.eval_shape(lambda: lora.init(frame.config, jax.random.key(0), config.policy))
  alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=alone), like)
  while True:
    whole = directory.name == "best"  # a step of a phase holds moments as well
    found, why = _read(directory / str(step), like if whole else {"params": like}, part=True)
    if not why:
      break
    faults[step] = why
    log.warning("%s is damaged: %s", directory / str(step), why)
    directory, step = find(root / "checkpoints", which, faults)
  params = found if whole else found["params"]
  return Stored(root, config, frame, params, directory.name, step)


def load_policy(workdir: str | Path, which: str | int | None = None) -> models.Policy:
  """The policy that a run stored, adapters merged; arguments and errors of `load_stored`."""
  return merged(load_stored(workdir, which))


def merged(found: Stored) -> models.Policy:
  """The policy with plain parameters."""
  params, policy = found.params, found.config.policy
  if policy.lora_rank:
    params = lora.merge(found.frame.params, params, policy)
  return dataclasses.replace(found.frame, params=params)


def keep_frame(workdir: Path, arch: Arch, tokenizer: Any, eos_ids: Sequence[int]) -> None:
  """Keeps the model without its weights in the work directory, for `load_policy`."""
  if not (workdir / FRAME).exists():
    export.save(arch, None, tokenizer, workdir / FRAME, eos_ids=eos_ids)


def _frame(root: Path, config: Config, base: bool) -> models.Policy:
  """The run's policy with shapes for what a checkpoint holds, and weights for what it does not.

  base: whether those weights are wanted. From what the run keeps of its model, else (runs of
  earlier versions) from the model itself. Raises BadInput where adapters have lost their base.
  """
  dtype, kept = config.policy.param_dtype, root / FRAME
  if not (config.policy.lora_rank and base):
    return models.describe(kept if kept.is_dir() else config.model, dtype)
  try:
    return models.load(config.model, dtype)
  except BadInput as error:
    raise BadInput(
      f"{root} holds adapters alone, which need the weights of model={config.model!r}: {error}"
    ) from error


def committed(workdir: Path) -> dict[str, int]:
  """Newest complete step of each phase, 0 where there is none; sizes are looked at, not bytes.

  GRPO begins from the end of the warm start: where it has a step, all of the warm start is done
  (sys.maxsize), whatever has become of its checkpoints.
  """
  sft, grpo = (newest(workdir / "checkpoints" / phase) or 0 for phase in ("sft", "grpo"))
  return {"sft": sys.maxsize if grpo else sft, "grpo": grpo}


def position(workdir: Path, warm_up: int) -> dict[str, int]:
  """What metrics.jsonl goes on from (metrics.truncate). warm_up: steps of the warm start in all."""
  reached = committed(workdir)
  sft = min(reached["sft"], warm_up)
  return {"sft": sft, "grpo": reached["grpo"], "warm": int(sft == warm_up)}
