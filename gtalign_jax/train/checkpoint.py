"""Checkpoints of a run (Orbax). The only module that imports orbax.

Layout under `<workdir>/checkpoints`: `sft/<step>` and `grpo/<step>` hold the whole state of a phase
(parameters, optimizer, counters) and its progress as JSON; `best/<step>` holds parameters alone. A
step becomes visible by one rename, so a process killed in the middle of a save leaves the previous
step intact.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from gtalign_jax import jsonl, models
from gtalign_jax.config import Config, from_dict
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.models import export, lora
from gtalign_jax.models.variants import Arch

log = logging.getLogger(__name__)
FRAME = "policy"  # folder: architecture and tokenizer, so that a run needs its model's path no more
logging.getLogger("absl").setLevel(logging.WARNING)  # orbax narrates every file it writes


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
  """Turns a full or read-only disk into one line; the newest complete checkpoint stays valid."""
  try:
    yield
  except Exception as error:  # orbax and tensorstore wrap OSError in several ways
    text = str(error)
    code = getattr(error, "errno", None)
    full = (
      code in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "quota" in text.lower()
    )
    denied = code in (errno.EACCES, errno.EROFS) or "Permission denied" in text
    if not (full or denied):
      raise
    why = "no space left on the disk" if full else "the folder is not writable"
    raise RunFailure(
      f"could not save a checkpoint in {directory}: {why}; earlier checkpoints are intact, "
      "mend it and run the same command again"
    ) from error


class Checkpoints:
  """The checkpoints of one phase; a host resource, close it (or use `with`).

  directory: folder of the phase. keep: how many newest steps stay.
  """

  def __init__(self, directory: Path, keep: int):
    self.directory = Path(directory).absolute()
    self.progress: dict[str, Any] = {}  # JSON that is stored with each step
    # on CPU a save in the background is a copy of the state in the same memory, and on the same
    # cores
    beside = jax.default_backend() != "cpu"
    with _disk_errors(self.directory):
      self._manager = ocp.CheckpointManager(
        self.directory,
        options=ocp.CheckpointManagerOptions(
          max_to_keep=keep, create=True, enable_async_checkpointing=beside
        ),
        item_names=("state", "progress"),
      )

  def __enter__(self) -> Checkpoints:
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  @property
  def step(self) -> int:
    """Newest complete step, 0 where there is none."""
    return self._manager.latest_step() or 0

  def save(self, step: int, state: Any) -> None:
    """Starts writing `state` (a pytree of arrays) and the progress as `step`.

    Returns when the arrays are safe to donate; an earlier save that failed raises here.
    """
    with _disk_errors(self.directory):
      self._manager.wait_until_finished()
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(self.progress)
        ),
        force=True,
      )

  def wait(self) -> None:
    """Blocks until the save under way is complete; raises what went wrong with it."""
    with _disk_errors(self.directory):
      self._manager.wait_until_finished()

  def restore_latest(self, like: Any) -> Any:
    """The newest state, onto the shapes, dtypes and shardings of `like`; reads the progress too.

    Onto ours, never onto the checkpoint's own: it may have been written on another mesh.
    """
    restored = self._manager.restore(
      self.step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(like), progress=ocp.args.JsonRestore()
      ),
    )
    self.progress = restored["progress"]
    return restored["state"]

  def close(self) -> None:
    """Finishes the save under way and releases threads."""
    try:
      self.wait()
    finally:
      self._manager.close()


def save_params(directory: Path, step: int, params: Any, progress: dict[str, Any]) -> None:
  """Writes parameters alone as the only step of `directory` (the best policy so far)."""
  with Checkpoints(directory, keep=1) as checkpoints:
    if checkpoints.step != step:
      checkpoints.progress = progress
      checkpoints.save(step, params)


def newest(directory: Path) -> int | None:
  """Newest complete step in a phase's folder, by the names of its subfolders."""
  steps = [int(each.name) for each in Path(directory).glob("*") if each.name.isdecimal()]
  return max(steps, default=None)


def find(root: Path, which: str | int | None) -> tuple[Path, int]:
  """(folder of the phase, step) of a stored policy under the folder `checkpoints`.

  which: None = the newest of GRPO, else of SFT; "best" = the best evaluated one; "sft" = the newest
  of SFT; an int = that GRPO step.
  Raises BadInput where there is none.
  """
  if isinstance(which, str):
    phases: tuple[str, ...] = (which,)
  else:
    phases = ("grpo", "sft") if which is None else ("grpo",)
  for phase in phases:
    step = which if isinstance(which, int) else newest(root / phase)
    if step is not None and (root / phase / str(step)).is_dir():
      return root / phase, step
  stored = {each.name: newest(each) for each in sorted(root.glob("*"))}
  raise BadInput(f"{root} holds no {which or 'finished'} checkpoint (newest by phase: {stored})")


def load_policy(workdir: str | Path, which: str | int | None = None) -> models.Policy:
  """The policy that a run stored, adapters merged; arguments as in `find`.

  workdir: the run's work directory, or its checkpoints folder. Raises BadInput where it is neither,
  or was written by a version whose policy had other keys.
  """
  root = Path(workdir).absolute()
  root = root.parent if root.name == "checkpoints" else root
  stored = root / "config.json"
  if not stored.is_file():
    raise BadInput(f"{workdir} is no work directory: it has no config.json; pass a run's workdir=")
  directory, step = find(root / "checkpoints", which)
  nested = jsonl.read_object(stored)
  # only what is needed here, so that a run of an older version can be read
  config = from_dict({key: nested[key] for key in ("model", "policy") if key in nested}, stored)
  policy = _frame(root, config)
  like = policy.params
  if config.policy.lora_rank:
    like = jax.eval_shape(lambda: lora.init(policy.config, jax.random.key(0), config.policy))
  params = restore_params(directory, step, jax.tree.map(_on_default_device, like))
  if config.policy.lora_rank:
    params = lora.merge(policy.params, params, config.policy)
  return dataclasses.replace(policy, params=params)


def keep_frame(workdir: Path, arch: Arch, tokenizer: Any, eos_ids: Sequence[int]) -> None:
  """Keeps the model without its weights in the work directory, for `load_policy`."""
  if not (workdir / FRAME).exists():
    export.save(arch, None, tokenizer, workdir / FRAME, eos_ids=eos_ids)


def _frame(root: Path, config: Config) -> models.Policy:
  """The run's policy with shapes for what a checkpoint holds, and weights for what it does not.

  From what the run keeps of its model, else (runs of earlier versions) from the model itself.
  Raises BadInput where adapters have lost their base.
  """
  dtype, kept = config.policy.param_dtype, root / FRAME
  if not config.policy.lora_rank:
    return models.describe(kept if kept.is_dir() else config.model, dtype)
  try:
    return models.load(config.model, dtype)
  except BadInput as error:
    raise BadInput(
      f"{root} holds adapters alone, which need the weights of model={config.model!r}: {error}"
    ) from error


def _on_default_device(x: Any) -> jax.ShapeDtypeStruct:
  alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=alone)


def restore_params(directory: Path, step: int, like: Any) -> Any:
  """Trainable parameters of a stored step onto the tree `like`; moments are not read."""
  item = like if directory.name == "best" else {"params": like}
  restored = ocp.PyTreeCheckpointer().restore(
    directory / str(step) / "state",
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=True,
    ),
  )
  return restored if directory.name == "best" else restored["params"]


def committed(workdir: Path) -> dict[str, int]:
  """Newest complete step of each phase, 0 where there is none."""
  return {phase: newest(workdir / "checkpoints" / phase) or 0 for phase in ("sft", "grpo")}
