"""Reads the names of aliases.py: changes of a config, as TRL or verl would say them, in our keys.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gtalign_jax.aliases import SWITCHES, TABLE, Alias
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import one_of


def spellings(name: str) -> list[str]:
  """All forms of a name of the table, the longest first: "[a.][b.]c" is a.b.c, b.c and c."""
  if not name.startswith("["):
    return [name]
  optional, _, rest = name[1:].partition("]")
  shorter = spellings(rest)
  return [optional + shorter[0], *shorter]


_BY_NAME = {each: alias for alias in TABLE for name in alias.names for each in spellings(name)}
# shortest form of every name -> the key of ours that is meant
NEAREST = {
  spellings(name)[-1]: alias.keys[0].lstrip("?")
  for alias in TABLE
  for name in alias.names
  if alias.keys
}


def sets(key: str) -> tuple[str, ...]:
  """The keys of ours that `key` may set: those of an alias, or `key` itself."""
  alias = _BY_NAME.get(key)
  if alias is None:
    return (key,)
  tables = [alias.keys, *(each for each in alias.values.values() if not isinstance(each, str))]
  return tuple(dict.fromkeys(each.lstrip("?") for table in tables for each in table))


def translate(changes: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
  """`changes` with our keys and values alone, and what was translated: "beta=0.1 -> …".

  Raises BadInput at an option that cannot be said in our keys, a value that it does not have, and
  two entries that want different values of one key.
  """
  given = {key: value for key, value in changes.items() if key in _BY_NAME}
  ours = {key: value for key, value in changes.items() if key not in _BY_NAME}
  by = {key: f"{key}={value}" for key, value in ours.items()}
  together = _together(given)
  meant = {
    key: together[key] if key in together else _meaning(key, value) for key, value in given.items()
  }
  told: dict[str, list[str]] = {key: [] for key in given}
  for key, mark, value, option in _hard_first(meant):
    if mark and key in ours:
      continue
    said = f"{option}={given[option]}"
    if key in ours and ours[key] != value:
      means = "" if by[key].startswith(f"{key}=") else f", which means {key}={ours[key]},"
      raise BadInput(f"{said} means {key}={value}, and {by[key]}{means} is given too; drop one")
    ours[key], by[key] = value, said
    told[option].append(f"{key}={value}")
  return ours, [f"{key}={given[key]} -> {' '.join(to) or 'nothing'}" for key, to in told.items()]


def _hard_first(meant: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, str, Any, str]]:
  """(our key, "?" where it yields to others, value, option), those that yield last."""
  flat = [
    (key.lstrip("?"), key[: key.startswith("?")], value, option)
    for option, table in meant.items()
    for key, value in table.items()
  ]
  return sorted(flat, key=lambda each: each[1])


def _together(given: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
  """What options mean that others make idle, or change. Raises BadInput where that is refused."""
  named = {_name(_BY_NAME[key]): key for key in given}
  said = {name: _text(given[key]) for name, key in named.items()}
  names = [name for switch in SWITCHES if said.get(switch) == "false" for name in SWITCHES[switch]]
  if {"filter_groups.enable", "filter_groups.max_num_gen_batches"} <= said.keys() and (
    said["filter_groups.enable"] == "true"
  ):
    names.append("filter_groups.enable")  # the other one says how often
  if {"adv_estimator", "norm_adv_by_std_in_grpo"} <= said.keys():
    # the second is of verl's estimator `grpo` alone, and says which of two that is
    grpo = said["adv_estimator"] == "grpo"
    names.append("adv_estimator" if grpo else "norm_adv_by_std_in_grpo")
  if said.get("loss_type") == "cispo":
    for name in ("epsilon", "epsilon_high"):
      if isinstance(value := given.get(name), (int, float)):
        raise BadInput(
          f"{name}={value}: with loss_type=cispo TRL means the largest ratio itself; set "
          f"grpo.clip_high={value - 1:g}, which is counted from 1"
        )
    if said.get("importance_sampling_level") == "token":
      names.append("importance_sampling_level")
  found: dict[str, Mapping[str, Any]] = {key: {} for key in given if _name(_BY_NAME[key]) in names}
  mini, batch = named.get("ppo_mini_batch_size"), named.get("train_batch_size")
  if mini and batch and given[mini] == given[batch]:
    found[mini] = {"grpo.minibatch_prompts": 0}  # the size itself would say what 0 says
  return found


def _name(alias: Alias) -> str:
  return spellings(alias.names[0])[-1]


def _text(value: Any) -> str:
  text = str(value).lower()
  return "none" if text == "null" else text  # of YAML, as verl's command line reads it


def _meaning(option: str, value: Any) -> Mapping[str, Any]:
  """What an option says in our keys; those that yield to others have a ? in front."""
  alias = _BY_NAME[option]
  meaning = alias.values.get(_text(value))
  if meaning is None and alias.rest is not None:
    return dict.fromkeys(alias.keys, alias.rest(value))
  if meaning is None and alias.why:
    raise BadInput(f"{option}={value}: {alias.why}")
  if meaning is None:
    names = [name for name, each in alias.values.items() if not isinstance(each, str)]
    one_of(option, value, names)
  if isinstance(meaning, str):
    raise BadInput(f"{option}={value}: {meaning}")
  return meaning or {}
