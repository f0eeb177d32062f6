"""The tasks by data_source: one small file each, and a user's own by `rewards.tasks`."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from gtalign_jax.errors import BadInput
from gtalign_jax.rewards.tasks.abg_coqa import abg_coqa
from gtalign_jax.rewards.tasks.advbench import advbench
from gtalign_jax.rewards.tasks.ambig_qa import ambig_qa
from gtalign_jax.rewards.tasks.base import Example, Task
from gtalign_jax.rewards.tasks.math_hard import math_hard
from gtalign_jax.rewards.tasks.medium import medium
from gtalign_jax.rewards.tasks.minerva import minerva
from gtalign_jax.rewards.tasks.wildguard import wildguard
from gtalign_jax.sections import Table

TaskFunction = Callable[[Example], Task]
TASKS: dict[str, TaskFunction] = {
  "math-hard": math_hard,
  "minerva": minerva,
  "ambig_qa": ambig_qa,
  "abg-coqa": abg_coqa,
  "medium": medium,
  "wildguard": wildguard,
  "advbench": advbench,
}


def find(data_source: str, own: Table) -> TaskFunction:
  """The task of a source; `own` is `rewards.tasks` and goes first.

  Raises BadInput for an unknown source or a path that names no function.
  """
  if data_source in own:
    return _load(data_source, own[data_source])
  if data_source not in TASKS:
    raise BadInput(
      f"data_source={data_source!r} is no known task ({', '.join(TASKS)}); name your own with "
      f'rewards.tasks={{"{data_source}": "package.module:function"}}'
    )
  return TASKS[data_source]


def _load(data_source: str, path: str) -> TaskFunction:
  module, _, name = str(path).partition(":")
  try:
    function = getattr(importlib.import_module(module), name)
  except (ImportError, AttributeError, ValueError) as error:
    raise BadInput(
      f"rewards.tasks[{data_source!r}]={path!r}: expected package.module:function ({error})"
    ) from None
  if not callable(function):
    raise BadInput(f"rewards.tasks[{data_source!r}]={path!r} is not a function")
  return function
