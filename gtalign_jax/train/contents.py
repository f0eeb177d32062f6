"""What a run has read, in `contents.json`: a file that changes in place makes another run.

config.json holds names; a resumed run would mix two sets of prompts, or two models, of one name.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from gtalign_jax import files, jsonl
from gtalign_jax.config import Config
from gtalign_jax.data import records as rows
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.game import pricing
from gtalign_jax.models import contents

log = logging.getLogger(__name__)
NAME, CHAINS = "contents.json", "sft.data"


def read(config: Config, records: Mapping[str, Sequence[Record]], chains: bool) -> dict[str, str]:
  """What the run reads: a hash of the model, of each source of each split, of `sft.data`, policies.

  chains: whether those of `sft.data` are still to be read.
  """
  found = {f"model={config.model}": contents.fingerprint(config.model)}
  for split, part in records.items():
    sources: dict[str, list[Record]] = {}
    for record in part:
      sources.setdefault(record.data_source, []).append(record)
    for source, own in sources.items():
      key = f"data.root={config.data.root!r}, split {split!r}, source {source!r}"
      found[key] = f"{len(own)} prompts, {rows.fingerprint(own)}"
  if config.data.condition == "pricing":
    found |= policies("data.condition_policies", config.data.condition_policies)
  if config.rewards.pricing:
    found |= policies("rewards.pricing", [config.rewards.pricing])
  if chains and config.sft.data:
    found[CHAINS] = contents.of_file(files.named(config.sft.data))
  return found


def policies(key: str, names: Sequence[str]) -> dict[str, str]:
  """What the pricing policies of the config's `key` say, by name."""
  found = {name: pricing.table(pricing.loaded(name, key)) for name in names}
  return {f"{key}={name!r}": jsonl.dumps(table) for name, table in found.items()}


def check(workdir: str | Path, found: Mapping[str, str]) -> None:
  """Raises BadInput where a run in `workdir` has read something else."""
  stored = Path(workdir) / NAME
  # no run yet, whatever a start left that ended between the two files; or one of earlier versions
  if not stored.exists() or not (Path(workdir) / "config.json").exists():
    return
  try:
    old = jsonl.read_object(stored)
  except BadInput as error:
    # it holds nothing that the run needs: no reason to lock a run out
    log.warning("%s; whether prompts and model are those of the run cannot be told", error)
    return
  same = dict(old.items() & found.items()).keys()
  # after the warm start its chains may go
  if changed := (old.keys() | found.keys()) - same - ({CHAINS} - found.keys()):
    first, more = min(changed), len(changed) - 1
    also = f" (and {more} more)" if more else ""
    raise BadInput(
      f"{first}: what it holds has changed since the run in workdir={workdir} began{also}; put it "
      "back, or choose another workdir="
    )
