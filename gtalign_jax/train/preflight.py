"""Everything that is cheap to find out, before a byte of a run is written.

`claimed` takes the work directory (place, lock, identity), `check` looks at records and judge
before a model is loaded, `check_prompts` and `check_disk` at what was loaded, and `claim` writes
config.json as the last step. A first start that ends before `claim` leaves nothing behind. The
main process alone looks and writes, and all hear what it found.
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
from gtalign_jax import files, jsonl, users
from gtalign_jax.config import Config
from gtalign_jax.data import conditions
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput, RunFailure, first_line
from gtalign_jax.parallel import distributed
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import judges, requests, tasks
from gtalign_jax.rewards.tasks import accuracy
from gtalign_jax.sections import DataConfig
from gtalign_jax.synthesize import sft_data
from gtalign_jax.train import checkpoint, contents, lock, stored

log = logging.getLogger(__name__)
GIB = 2**30
Records = Mapping[str, Sequence[Record]]  # by split
MOMENT_BYTES = 4  # float32; for bfloat16 parameters an upper bound


# ---------------------------------------------------------------- the work directory


def is_finished(config: Config) -> bool:
  """Whether the work directory holds this very run, to its end; told in one line.

  False where it is to go on: there is none yet, it is under way, or `config` has more steps. Raises
  BadInput where the directory holds another run.
  """
  workdir = Path(config.workdir)
  if not (workdir / "DONE").exists():
    return False
  try:
    old = jsonl.read_object(workdir / "config.json")
  except BadInput:
    # nobody knows what ended here, unless its checkpoints say it (see `_stored_config`)
    return not stored.stored_config(workdir)
  check_identity(config, old)
  if configs.is_extended(old, config):
    return False
  steps = f"sft.steps={config.sft.steps}, grpo.steps={config.grpo.steps}"
  log.info("workdir=%s is finished (%s): nothing to do; more steps would go on", workdir, steps)
  return True


@contextlib.contextmanager
def claimed(config: Config) -> Iterator[Path]:
  """Holds the work directory of `config` for this start, until the block ends.

  Raises BadInput where the directory cannot be used, is in use, or holds a run of another identity.
  """
  workdir = Path(config.workdir)
  with contextlib.ExitStack() as stack:

    def take() -> None:
      files.check_folder(config.workdir, "workdir")
      stack.enter_context(lock.held(workdir))
      # under the lock: nobody else is about to write here
      for folder in (workdir, workdir / "eval", workdir / "samples"):
        files.clean(folder)
      if (old := _stored_config(workdir)) is not None:
        check_identity(config, old)

    distributed.by_main(take)
    yield workdir


def claim(config: Config, found: Mapping[str, str]) -> None:
  """Makes the held directory a run of `config`: writes config.json, whole or not at all.

  found: of `contents.read`, written first. From here on a failed start leaves the directory, and
  only this identity may go on in it.
  """
  if not distributed.is_main():
    return
  texts = {contents.NAME: json.dumps(found, indent=2) + "\n", "config.json": configs.stored(config)}
  try:
    # before the new number of steps is written, which would pass for one that was reached
    (Path(config.workdir) / "DONE").unlink(missing_ok=True)
    for name, text in texts.items():
      path = Path(config.workdir) / name
      # written again where the placement changed, so that the report tells what runs now
      if not path.exists() or path.read_text(encoding="utf-8") != text:
        files.replace(path, text)  # atomically: half a config.json would lock everybody out
  except OSError as error:
    raise BadInput(
      f"workdir={config.workdir} cannot be written: {error.strerror}; choose another"
    ) from error


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
    kept = stored.stored_config(workdir)
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


def check(config: Config, records: Records, scored: bool = True) -> None:
  """What can be told before the model is loaded: every record's task and label, and the judge.

  scored: False where nothing is judged (the warm start by itself), so that no
  judge is needed, and of labels only that those given are none that chains would misread. Raises
  BadInput, or RunFailure where the same command may succeed later.
  """
  conditions.grid(config.data)
  if not scored and not config.sft.data:
    _check_each(records, tasks.check_label)
  if scored:
    requests.policy(config.rewards)
    check_records(records, config.rewards)
    distributed.by_main(lambda: judges.check(config.rewards.judge))
    if config.conversation.turns > 1:
      if config.rewards.mode == "paper":
        raise BadInput(
          f"conversation.turns={config.conversation.turns}: rewards.mode='paper' knows one turn; "
          "use corrected, or 1"
        )
      distributed.by_main(lambda: users.check(config.conversation.user))
      _check_somebody_answers(config, records)
    if config.rewards.judge.kind == "rule":
      sources = {each.data_source for part in records.values() for each in part}
      log.info("%s", accuracy.of_rules(sources, config.rewards.tasks))


def _check_somebody_answers(config: Config, records: Records) -> None:
  """Raises BadInput where no source has a user: all conversations would end after one turn."""
  if config.conversation.user.kind != "rule":
    return
  user = users.connect(config.conversation.user)
  sources = sorted({each.data_source for part in records.values() for each in part})
  if all(map(user.ends, sources)):
    raise BadInput(
      f"conversation.turns={config.conversation.turns} has no effect: the rule user answers for "
      f"none of {', '.join(sources)}; take conversation.user.kind=http, or leave it at 1"
    )


def check_contents(config: Config, records: Records) -> dict[str, str]:
  """Raises BadInput where files that the run has read hold something else by now.

  And where `sft.data` will be read and cannot be: that would else come out when the warm start
  begins, after the evaluation of the start policy. Returns what the files hold, for `claim`;
  nothing on processes that do not write.
  """
  found: dict[str, str] = {}

  def look() -> None:
    ahead = checkpoint.committed(Path(config.workdir))["sft"] < config.sft.steps
    if config.sft.data and ahead:
      sft_data.check(config.sft, config.chain.form)
    found.update(contents.read(config, records, chains=ahead))
    contents.check(config.workdir, found)

  distributed.by_main(look)
  return found


def check_records(records: Records, rewards: RewardConfig) -> None:
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


def _check_each(records: Records, check: Callable[[dict[str, Any], str], None]) -> None:
  bad: list[str] = []
  # all of them, not up to the first bad one: whether it is one row or a whole source decides what
  # the user does about it
  for split, each in ((split, each) for split, part in records.items() for each in part):
    try:
      check(each._asdict() | {"prompt": each.messages}, f"split {split!r}, record {each.id!r}")
    except BadInput as error:
      bad.append(str(error))
  if bad:
    more = f" (and {len(bad) - 1} more record{'s' * (len(bad) > 2)})" if len(bad) > 1 else ""
    raise BadInput(bad[0] + more)


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


def check_disk(config: Config, params: Any, free: int | None = None) -> None:
  """Raises RunFailure, on every process, where the checkpoints of the run will not fit on the disk.

  params: trained parameters, or their shapes. free: bytes; by default those of the disk of workdir.
  """
  workdir, needed = Path(config.workdir), checkpoint_bytes(config, params)

  def look() -> None:
    there = [each for each in (workdir / "checkpoints").rglob("*") if each.is_file()]
    room = shutil.disk_usage(_existing(workdir)).free if free is None else free
    room += sum(each.stat().st_size for each in there)  # which later checkpoints replace
    if needed > room:
      raise RunFailure(
        f"workdir={config.workdir}: checkpoints need up to {needed / GIB:.2f} GiB, and "
        f"{room / GIB:.2f} GiB are free; free some, lower "
        f"checkpoint.keep={config.checkpoint.keep}, or choose another disk"
      )

  distributed.by_main(look)


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
  # a critic with a trunk of its own is stored beside the policy, moments and all
  models = 1 + (config.has_critic and config.critic.trunk == "own")
  states += models * min(keep + 1, math.ceil(grpo.steps / config.checkpoint.every))
  best = 2 if grpo.steps else 0  # parameters alone, the old ones until the new ones are complete
  return states * state + best * weights


def _existing(path: Path) -> Path:
  """`path`, or the nearest of its parents that is there."""
  # absolute, because the parents of "runs/first" end at "runs"
  return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
