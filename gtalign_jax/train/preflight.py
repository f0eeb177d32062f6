"""Everything that is cheap to find out, before a byte of a run is written.

`claimed` takes the work directory (place, lock, identity), `check` looks at records and judge
before a model is loaded, `check_prompts` and `check_disk` at what was loaded, and `claim` writes
config.json as the last step. A first start that ends before `claim` leaves nothing behind. What
needs all hosts to agree is decided by the main process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from gtalign_jax import config as configs
from gtalign_jax import files, jsonl
from gtalign_jax.config import Config
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput, RunFailure, first_line
from gtalign_jax.parallel import distributed
from gtalign_jax.rewards import judges, tasks
from gtalign_jax.rewards.tasks import accuracy
from gtalign_jax.sections import DataConfig, RewardConfig
from gtalign_jax.synthesize import sft_data
from gtalign_jax.train import checkpoint, contents, lock

log = logging.getLogger(__name__)
GIB = 2**30
MOMENT_BYTES = 4  # float32; for bfloat16 parameters an upper bound


# ---------------------------------------------------------------- the work directory


def is_done(workdir: str | Path) -> bool:
  """True where a run has ended; such a directory is left as it is."""
  return (Path(workdir) / "DONE").exists()


def is_finished(config: Config) -> bool:
  """Whether the work directory holds this very run, to its end; told in one line.

  False where it is to go on: there is none yet, it is under way, or `config` has more steps. Raises
  BadInput where the directory holds another run.
  """
  workdir = Path(config.workdir)
  if not is_done(workdir):
    return False
  try:
    old = jsonl.read_object(workdir / "config.json")
  except BadInput:
    # nobody knows what ended here, unless its checkpoints say it (see `_stored_config`)
    return not checkpoint.stored_config(workdir)
  check_identity(config, old)
  if configs.is_extended(old, config):
    return False
  log.info(
    "workdir=%s is finished (sft.steps=%d, grpo.steps=%d): nothing to do; more steps would go on",
    workdir,
    config.sft.steps,
    config.grpo.steps,
  )
  return True


@contextlib.contextmanager
def claimed(config: Config, main: bool = True) -> Iterator[Path]:
  """Holds the work directory of `config` for this start, until the block ends.

  main: whether this process writes; it alone looks and locks, and all processes hear what it found.
  Raises BadInput where the directory cannot be used, is in use, or holds a run of another identity.
  """
  workdir = Path(config.workdir)
  with contextlib.ExitStack() as stack:

    def take() -> None:
      check_place(config.workdir)
      stack.enter_context(lock.held(workdir))
      # under the lock: nobody else is about to write here
      for folder in (workdir, workdir / "eval", workdir / "samples"):
        files.clean(folder)
      if (old := _stored_config(workdir)) is not None:
        check_identity(config, old)

    _by_main(take, main)
    yield workdir


def claim(config: Config, found: Mapping[str, str], main: bool = True) -> None:
  """Makes the held directory a run of `config`: writes config.json, whole or not at all.

  found: of `contents.read`, written first. From here on a failed start leaves the directory, and
  only this identity may go on in it.
  """
  texts = {contents.NAME: contents.text(found), "config.json": configs.stored(config)}
  if not main:
    return
  try:
    # before the new number of steps is written, which would pass for one that was reached
    (Path(config.workdir) / "DONE").unlink(missing_ok=True)
    for name, text in texts.items():
      stored = Path(config.workdir) / name
      # written again where the placement changed, so that the report tells what runs now
      if not stored.exists() or stored.read_text(encoding="utf-8") != text:
        files.replace(stored, text)  # atomically: half a config.json would lock everybody out
  except OSError as error:
    raise BadInput(
      f"workdir={config.workdir} cannot be written: {error.strerror}; choose another"
    ) from error


def check_place(workdir: str) -> None:
  """Raises BadInput where `workdir` is no place on a file system for a folder to be."""
  if "://" in workdir:  # Path() would take it for a relative folder, one on each host
    raise BadInput(
      f"workdir={workdir} is no local path, and buckets are not written to; mount the bucket "
      "(gcsfuse, s3fs) and name the mounted folder"
    )
  parent = _existing(Path(workdir))
  if not parent.is_dir():
    raise BadInput(f"workdir={workdir} cannot be written: {parent} is no folder; choose another")


def _stored_config(workdir: Path) -> dict[str, Any] | None:
  """The config of the run in `workdir`, from its checkpoints where config.json is damaged.

  None where no run has begun. Raises BadInput where one has, and nothing says which.
  """
  path = workdir / "config.json"
  begun = any((workdir / name).exists() for name in ("checkpoints", "metrics.jsonl", "DONE"))
  if not path.exists() and not begun:
    return None
  try:
    return jsonl.read_object(path)
  except BadInput as error:
    kept = checkpoint.stored_config(workdir)
    if kept is None:
      raise BadInput(
        f"{error}, and nothing else says of which run workdir={workdir} is; put the file back, or "
        "use another workdir="
      ) from error
    if path.exists():
      files.set_aside(path, first_line(error), "written again from the newest checkpoint")
    files.replace(path, json.dumps(kept, indent=2) + "\n")
    return kept


def check_identity(config: Config, old: Mapping[str, Any]) -> None:
  """Raises BadInput with the keys that differ where the directory holds another run.

  old: the run's config, as it was stored. A changed placement is taken, and told in one line.
  """
  reached = checkpoint.committed(Path(config.workdir))  # no phase may end before what it has done
  changed = configs.differences(old, config, reached, explain=True)
  if changed:
    raise BadInput(
      f"workdir={config.workdir} holds a run of another config ({'; '.join(changed)}); "
      "undo the change or choose another workdir="
    )
  moved = configs.placement_changes(old, config, reached)
  if moved:
    log.info("going on with another placement: %s", "; ".join(moved))


# ---------------------------------------------------------------- what the run will need


def check(
  config: Config, records: Mapping[str, Sequence[Record]], main: bool = True, scored: bool = True
) -> None:
  """What can be told before the model is loaded: every record's task and label, and the judge.

  records: by split. scored: False where nothing is judged (the warm start by itself), so that no
  judge is needed, and of labels only that those given are none that chains would misread. Raises
  BadInput, or RunFailure where the same command may succeed later.
  """
  if not scored and not config.sft.data:
    _check_each(records, tasks.check_label)
  if scored:
    check_records(records, config.rewards)
    _by_main(lambda: judges.check(config.rewards.judge), main)
    if config.rewards.judge.kind == "rule":
      sources = {each.data_source for part in records.values() for each in part}
      log.info("%s", accuracy.of_rules(sources, config.rewards.tasks))


def check_chains(config: Config) -> None:
  """Raises BadInput where `sft.data` will be read and cannot be.

  It is read again where the warm start begins; before that, the start policy is evaluated.
  """
  done = checkpoint.committed(Path(config.workdir)).get("sft", 0)
  if config.sft.data and done < config.sft.steps:
    sft_data.rows(config.sft.data)


def check_contents(
  config: Config, records: Mapping[str, Sequence[Record]], main: bool = True
) -> dict[str, str]:
  """Raises BadInput where files that the run has read hold something else by now.

  Returns what they hold, for `claim`; nothing on processes that do not write.
  """
  found: dict[str, str] = {}

  def look() -> None:
    done = checkpoint.committed(Path(config.workdir)).get("sft", 0)
    found.update(contents.read(config, records, chains=done < config.sft.steps))
    contents.check(config.workdir, found)

  _by_main(look, main)
  return found


def check_records(records: Mapping[str, Sequence[Record]], rewards: RewardConfig) -> None:
  """Every record has a task, and a label that the task knows.

  Raises BadInput for the first one that has not, and says how many more there are.
  """
  own, mode, kind = rewards.tasks, rewards.mode, rewards.judge.kind
  for source, path in own.items():
    tasks.load(source, path)  # of sources without a record as well: a typing error is one anyway
  there = {record.data_source for part in records.values() for record in part}
  for source in own.keys() - there:
    log.warning("rewards.tasks[%r] does nothing: no record has this data_source", source)
  _check_each(records, lambda row, where: tasks.check(row, own, mode, where, kind))


def _check_each(
  records: Mapping[str, Sequence[Record]], check: Callable[[dict[str, Any], str], None]
) -> None:
  first, bad = "", 0
  # all of them, not up to the first bad one: whether it is one row or a whole source decides what
  # the user does about it
  for split, each in ((split, each) for split, part in records.items() for each in part):
    row = {**each._asdict(), "prompt": each.messages}
    try:
      check(row, f"split {split!r}, record {each.id!r}")
    except BadInput as error:
      first, bad = first or str(error), bad + 1
  if bad:
    more = f" (and {bad - 1} more record{'s' * (bad > 2)})" if bad > 1 else ""
    raise BadInput(first + more)


def check_prompts(encoded: Mapping[str, Encoded], data_config: DataConfig) -> None:
  """Says how many prompts are too long. Raises BadInput where a split has none left."""
  limit = data_config.max_prompt_tokens
  for split, each in encoded.items():
    total = len(each.ids) + each.left_out
    if not each.ids:
      raise BadInput(
        f"no prompt is left of the {total} of split {split!r}; raise "
        f"data.max_prompt_tokens={limit}, or name another data.train_split, data.eval_split"
      )
    if each.left_out:
      # most of the data gone is no detail: the run would learn from the short prompts alone
      level = logging.WARNING if 2 * each.left_out > total else logging.INFO
      log.log(
        level, "%s: left out %d of %d prompts over %d tokens", split, each.left_out, total, limit
      )


def check_disk(config: Config, params: Any, main: bool = True, free: int | None = None) -> None:
  """Raises RunFailure, on every process, where the checkpoints of the run will not fit on the disk.

  params: trained parameters, or their shapes. free: bytes; by default those of the disk of workdir.
  """
  _by_main(lambda: _check_disk(config, params, free), main)


def _check_disk(config: Config, params: Any, free: int | None) -> None:
  workdir = Path(config.workdir)
  needed = checkpoint_bytes(config, params)
  if free is None:
    free = shutil.disk_usage(_existing(workdir)).free
  there = sum(
    each.stat().st_size for each in (workdir / "checkpoints").rglob("*") if each.is_file()
  )
  if needed > free + there:  # earlier checkpoints of this run are replaced by later ones
    raise RunFailure(
      f"workdir={config.workdir}: checkpoints need up to {needed / GIB:.2f} GiB, and "
      f"{(free + there) / GIB:.2f} GiB are free; free some, lower "
      f"checkpoint.keep={config.checkpoint.keep}, or choose another disk"
    )


def checkpoint_bytes(config: Config, params: Any) -> int:
  """The most that checkpoints take at one time: parameters and two moments, each as often as kept.

  One more than is kept, because the oldest goes only when the newest is complete.
  """
  leaves = jax.tree.leaves(params)  # of the whole arrays: all processes write to one disk
  weights = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
  state = weights + 2 * MOMENT_BYTES * sum(leaf.size for leaf in leaves)
  keep, sft, grpo = config.checkpoint.keep, config.sft, config.grpo
  # the warm start's stay when GRPO begins; short phases save fewer times than they may keep
  states = min(keep + 1, math.ceil(sft.steps / sft.every))
  states += min(keep + 1, math.ceil(grpo.steps / config.checkpoint.every))
  best = 2 if grpo.steps else 0  # parameters alone, the old ones until the new ones are complete
  return states * state + best * weights


def _existing(path: Path) -> Path:
  """`path`, or the nearest of its parents that is there."""
  # absolute, because the parents of "runs/first" end at "runs"
  return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _by_main(check: Callable[[], None], main: bool) -> None:
  """Runs `check` on the main process; where it fails, all processes end alike.

  A process that went on alone would wait in its next collective until the heartbeats give up.
  """
  error: BadInput | RunFailure | None = None
  if main:
    try:
      check()
    except (BadInput, RunFailure) as caught:
      error = caught
  if distributed.agree(error is None):
    return
  # the same exit code everywhere, because it decides whether the launcher tries again
  kind = BadInput if distributed.agree(isinstance(error, BadInput)) else RunFailure
  raise error or kind("the main process cannot start; its log says why")
