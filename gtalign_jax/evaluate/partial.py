"""The rows so far of a job of `generate` or `eval`, and what makes two starts the same job.

`OUT.partial` begins with a line that says what its rows depend on: contents, not names, so that a
model whose weights were replaced, or prompts that were edited, never share a file with the old.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.util
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from gtalign_jax import config as configs
from gtalign_jax import files, finished, jsonl
from gtalign_jax.config import Config
from gtalign_jax.data import records
from gtalign_jax.data.prompts import Encoded
from gtalign_jax.errors import BadInput
from gtalign_jax.game import pricing
from gtalign_jax.models import contents
from gtalign_jax.parallel import distributed
from gtalign_jax.progress import Advance, Shown
from gtalign_jax.rewards import requests

log = logging.getLogger(__name__)
# keys of the config that rows depend on; which prompts they chose, the prompts themselves say
_READ = ("policy.dtype", "data.template", "chain.", "rollout.")
_MET = ("rewards.", "conversation.", "data.seed")  # of scored rows; the seed draws what users mean
PROMPTS = "the prompts"  # a name that every first line has
_SAMPLED = ("rollout.group_size", "rollout.temperature")  # of training: a job has its own


def job(config: Config, options: Mapping[str, Any], encoded: Encoded, scored: bool) -> dict:
  """What the rows of a job depend on, by name; JSON-ready."""
  read = (*_READ, *_MET) if scored else _READ
  identity = configs.identity(config)
  found = {k: v for k, v in identity.items() if k.startswith(read) and k not in _SAMPLED}
  ids = hashlib.sha256(b"".join(each.tobytes() + b"/" for each in encoded.ids)).hexdigest()[:16]
  if config.endpoint.model:  # not its address: a model may move
    asked = ("model", "temperature", "max_tokens", "extra_body")
    found |= {f"endpoint.{key}": getattr(config.endpoint, key) for key in asked}
  else:
    found["the model's files"] = contents.fingerprint(config.model)
  found |= {
    PROMPTS: records.fingerprint(encoded.records),
    "the prompts' tokens": ids,
  }
  if scored:
    found |= {f"the code of {name}": _code(path) for name, path in config.rewards.tasks.items()}
    if policy := requests.policy(config.rewards):
      found["the pricing policy"] = pricing.table(policy)
    if config.rewards.judge.log:
      found["the log of verdicts"] = contents.of_file(config.rewards.judge.log)
    if config.conversation.user.log:
      found["the log of replies"] = contents.of_file(config.conversation.user.log)
  return found | dict(options)


def _code(path: str) -> str:
  """Hash of the file of an own task, package.module:function."""
  spec = importlib.util.find_spec(path.partition(":")[0])
  return contents.of_file(spec.origin) if spec and spec.origin else ""


def write(
  named: dict,
  size: int,
  count: int,
  chunks: Callable[[int], Iterator[list[dict]]],
  out: Path,
  advance: Advance,
  overwrite: bool,
) -> list[dict]:
  """Writes the rows of `count` prompts to `out`; a stopped job goes on after its last whole prompt.

  Rows gather in `<out>.partial`, whose first line names the job; `out` appears when all are there.
  named: of `job`. size: rows of a prompt. chunks(first): rows of some prompts at a time, from
  number `first` on. overwrite: whether files of another job may go. Returns all rows, read back
  where this job has written `out` before; of several processes the main one alone writes, and has
  the rows of earlier starts. Raises BadInput where `out` or its partial file is of
  another job, or cannot be written.
  """
  name, part = json.dumps(named), out.with_name(out.name + ".partial")
  rows: list[dict] = []
  main: list[IO[bytes]] = []  # the partial file, on the process that writes, unless all is done

  def begin() -> None:
    with _written(out):
      if finished.is_done(out, name, overwrite):
        log.info("%s is finished; nothing to do", out)
        rows.extend(row for _, row in jsonl.read(out))
      else:
        kept, file = held.enter_context(opened(part, named, size, overwrite))
        rows.extend(kept)
        main.append(file)

  with contextlib.ExitStack() as held, _written(out):
    distributed.by_main(begin)
    state = [{"done": len(rows) // size, "open": bool(main)}] if distributed.is_main() else []
    (told,) = distributed.gather_rows(state)  # all go on from where the main process is
    if not told["open"]:
      return rows
    done = told["done"]
    if isinstance(advance, Shown):
      advance.first = done  # an earlier start's prompts say nothing of the pace
    advance(done, count)
    for batch in chunks(done):
      for file in main:
        file.writelines(jsonl.dumps(row).encode() + b"\n" for row in batch)
        file.flush()
      rows += batch
      done += len(batch) // size
      advance(done, count)
    if main:
      jsonl.write(out, rows)
      part.unlink()
      finished.sign(out, name)
  return rows


@contextlib.contextmanager
def _written(out: Path) -> Iterator[None]:
  try:
    yield
  except OSError as error:
    raise files.unwritable(out, error) from error


@contextlib.contextmanager
def opened(
  path: Path, named: dict, size: int, overwrite: bool
) -> Iterator[tuple[list[dict], IO[bytes]]]:
  """(rows of whole prompts of an earlier start of the same job, the file to append to).

  named: of `job`. size: rows of a prompt; the rest of the file is cut off. Raises BadInput where
  the file is another job's, is in use, or cannot be read; OSError where it cannot be written.
  """
  first = json.dumps(named).encode() + b"\n"
  with path.open("a+b") as file:
    _lock(file, path)
    file.seek(0)
    text = file.read()
    lines = text.splitlines(keepends=True)
    # what broke off within the first line held no row yet
    if not first.startswith(text) and lines[0] != first:
      # a start of a job that failed before its first row left nothing to keep
      if not overwrite and not (len(lines) == 1 and PROMPTS in _header(lines[0])):
        raise BadInput(
          f"{path} holds rows of another job ({_differences(lines[0], named)}); remove it, name "
          "another file, or replace it with --overwrite"
        )
      lines = []
    begun = lines[:1] == [first]
    kept = lines[1 : 1 + (len(lines) - 1) // size * size] if begun else []
    if kept and not kept[-1].endswith(b"\n"):  # a start was killed while it wrote
      kept = kept[:-size]
    rows = [_row(line, f"{path}:{number}") for number, line in enumerate(kept, start=2)]
    # only the end is cut off: a kill between emptying and writing again would cost hours of rows
    file.truncate(len(first) + sum(map(len, kept)) if begun else 0)
    if not begun:
      file.write(first)
      file.flush()
    if kept:
      log.info("going on after %d rows of an earlier start", len(kept))
    yield rows, file


def _lock(file: IO[bytes], path: Path) -> None:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno == errno.EWOULDBLOCK:  # others: a file system without locks
      raise BadInput(f"{path} is being written by another process; name another file") from None


def _header(line: bytes) -> dict[str, Any]:
  """The job that a first line names; nothing where it names none."""
  with contextlib.suppress(ValueError, TypeError, RecursionError):
    return dict(json.loads(line))
  return {}


def _row(line: bytes, where: str) -> dict:
  try:
    return json.loads(line)
  except (ValueError, RecursionError) as error:
    raise BadInput(f"{where}: not a line of JSON ({error}); remove the file") from None


def _differences(line: bytes, new: Mapping[str, Any]) -> str:
  """What differs between the first line of a file and the job `new`, in words."""
  old = _header(line)
  if PROMPTS not in old:
    return "its first line names none"
  named = json.loads(json.dumps(new))  # tuples become lists
  keys = [key for key in old.keys() | named.keys() if old.get(key) != named.get(key)]
  changed = [
    f"{key} differ{'s' * (not key.endswith('s'))}"
    if key.startswith("the ")
    else f"{key}: {old.get(key)!r} -> {named.get(key)!r}"
    for key in sorted(keys)
  ]
  return ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
