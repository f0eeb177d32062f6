"""What is checked before a run spends time: work directory, configuration, devices."""

from __future__ import annotations

import json
from pathlib import Path

from gtalign_jax import jsonl
from gtalign_jax.config import Config, as_dict, differences
from gtalign_jax.errors import BadInput
from gtalign_jax.files import replace


def is_done(workdir: Path) -> bool:
  """True where a run has ended; such a directory is left as it is."""
  return (Path(workdir) / "DONE").exists()


def open_workdir(config: Config, main: bool = True) -> Path:
  """Creates the work directory or checks that it belongs to this configuration.

  main: whether this process writes. Raises BadInput with the keys that differ, or where the folder
  cannot be written.
  """
  workdir = Path(config.workdir)
  stored = workdir / "config.json"
  if stored.exists():
    try:
      changed = differences(jsonl.read_object(stored), config)
    except BadInput as error:
      raise BadInput(f"{error}; use another workdir=") from error
    if changed:
      raise BadInput(
        f"workdir={workdir} holds a run of another config ({'; '.join(changed)}); "
        "undo the change or choose another workdir="
      )
  elif main:
    try:
      replace(stored, json.dumps(as_dict(config), indent=2) + "\n")
    except OSError as error:
      raise BadInput(
        f"workdir={workdir} cannot be written: {error.strerror}; choose another"
      ) from error
  return workdir
