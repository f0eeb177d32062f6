"""SFT chains from a teacher behind an OpenAI-compatible endpoint; only fit ones are kept.

Every answer goes to `OUT.jsonl.part` at once, so a run that was stopped continues where it was;
`OUT.jsonl` appears whole at the end.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from gtalign_jax import files, jsonl
from gtalign_jax.data import prompts
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.sections import RewardConfig
from gtalign_jax.synthesize import check

log = logging.getLogger(__name__)

# reasoning models think aloud first; some chat templates eat the opening tag
_THOUGHT = re.compile(r"\A\s*(?:<think>)?.*?</think>\s*", re.S)
FATAL = (401, 403, 404)  # wrong key or model: every other request would fail alike
REFUSED = (400, 413, 422)  # this prompt was refused (filter, length); asking again does not help


class Teacher(NamedTuple):
  """The endpoint. tries: samples per prompt until one is fit. retries: of a request that fails.

  api_key_env: variable that holds the key; local servers need none.
  """

  base_url: str
  model: str
  api_key_env: str = "OPENAI_API_KEY"
  concurrency: int = 8
  tries: int = 2
  retries: int = 4
  timeout_s: float = 120.0
  max_tokens: int = 2048
  temperature: float = 0.7


def row(record: Record, completion: str) -> dict[str, Any]:
  """One line of a file of chains; `data.records.from_row` reads the record back."""
  return record._asdict() | {"completion": completion}


def distil(
  records: Sequence[Record],
  teacher: Teacher,
  limits: RewardConfig,
  out: Path,
  on_done: Callable[[int, int], None] = lambda done, total: None,
  overwrite: bool = False,
) -> dict[str, Any]:
  """Writes one fit chain per record to `out`; returns counts.

  Counts: prompts, kept, rejected (by reason, see `check.fault`), failed (requests without an
  answer; the next run asks them again). Raises BadInput where `out` exists or its part file belongs
  to another job, RunFailure where the endpoint refuses, requests got no answer, or no chain was
  fit.
  """
  if out.exists() and not overwrite:  # hours of paid answers
    raise BadInput(f"{out} is there already; name another, or replace it with --overwrite")
  part = out.with_name(out.name + ".part")
  answers = _resume(part, _job(records, teacher))
  wanted = [record for record in records if record.id not in answers]
  log.info("teacher: %d prompts, %d answered before", len(records), len(answers))
  failed = 0
  if wanted:
    with part.open("a", encoding="utf-8") as file:
      requests = _Requests(teacher, limits, file, answers, len(records), on_done)
      failed = asyncio.run(requests.all(wanted))
  by_id = {record.id: record for record in records}  # in the order of the prompts
  fit = {i: each["completion"] for i, each in answers.items() if each["fault"] is None}
  kept = [row(record, fit[i]) for i, record in by_id.items() if i in fit]
  reasons = Counter(each["fault"] for each in answers.values() if each["fault"])
  counts = {"prompts": len(records), "kept": len(kept), "rejected": dict(reasons), "failed": failed}
  if failed:  # the part file stays, so that the next run asks for the missing ones only
    raise RunFailure(
      f"teacher: {failed} of {len(records)} requests got no answer ({len(kept)} chains kept in "
      f"{part}); run the same command again to continue"
    )
  if not kept:
    raise RunFailure(
      f"teacher: no chain of {len(records)} was fit ({dict(reasons)}); remove {part} to ask again"
    )
  jsonl.write(out, kept)
  part.unlink()  # only now that the answers are safe elsewhere
  return counts


def _job(records: Sequence[Record], teacher: Teacher) -> dict[str, Any]:
  """What answers in a part file depend on."""
  # not the sampling settings: chains of another temperature are as good
  return {"model": teacher.model, "base_url": teacher.base_url, "prompts": len(records)}


def _resume(part: Path, job: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Answers of an earlier run by id; a last line that broke off is dropped."""
  if not part.exists():
    try:
      part.write_text(json.dumps(job) + "\n", encoding="utf-8")
    except OSError as error:
      raise BadInput(f"{part}: cannot be written ({error.strerror})") from error
    return {}
  # a process that was killed while it wrote leaves half a line
  text = part.read_text(encoding="utf-8")
  whole = text[: text.rfind("\n") + 1]
  if whole != text:
    files.replace(part, whole)
  lines = [each for _, each in jsonl.read(part)]
  if lines[:1] != [job]:
    raise BadInput(
      f"{part} belongs to another job ({lines[:1]}); remove it or choose another output"
    )
  return {each["id"]: each for each in lines[1:]}


class _Requests:
  """The requests of one run, at most `teacher.concurrency` at a time."""

  def __init__(
    self,
    teacher: Teacher,
    limits: RewardConfig,
    file: TextIO,
    answers: dict[str, dict[str, Any]],
    total: int,
    on_done: Callable[[int, int], None],
  ):
    import openai  # deferred: the import takes a second

    self.teacher, self.limits, self.file, self.answers = teacher, limits, file, answers
    self.total, self.on_done, self.openai = total, on_done, openai
    self.key = os.environ.get(teacher.api_key_env) or "none"  # the client refuses an empty key
    self.free = asyncio.Semaphore(teacher.concurrency)

  async def all(self, records: Sequence[Record]) -> int:
    """Asks for every record; returns how many got no answer."""
    client = self.openai.AsyncOpenAI(
      base_url=self.teacher.base_url,
      api_key=self.key,
      max_retries=self.teacher.retries,  # of 429, 5xx and lost connections, with growing pauses
      timeout=self.teacher.timeout_s,
    )
    try:
      async with client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(self._one(client, record)) for record in records]
    except ExceptionGroup as group:  # the first task that gave up has cancelled the others
      raise group.exceptions[0] from None
    return sum(not task.result() for task in tasks)

  async def _one(self, client: Any, record: Record) -> bool:
    async with self.free:  # all tasks exist at once; this bounds the open requests
      try:
        fault, text = await self._best(client, record)
      except self.openai.OpenAIError as error:
        status = getattr(error, "status_code", None)
        if status in FATAL:
          reason = self._safe(error)
          raise RunFailure(f"teacher {self.teacher.base_url}: {reason}") from None
        log.warning("teacher: %s: %s", record.id, self._safe(error))
        if status not in REFUSED:
          return False
        # an answer of a kind: written down, so that no later run pays for asking again
        fault, text = f"http_{status}", ""
    answer = {"id": record.id, "fault": fault, "completion": None if fault else text}
    self.answers[record.id] = answer
    self.file.write(json.dumps(answer) + "\n")
    self.file.flush()  # each answer was paid for
    self.on_done(len(self.answers), self.total)
    return True

  async def _best(self, client: Any, record: Record) -> tuple[str | None, str]:
    """(fault, text) of the first fit sample, else of the last one."""
    fault, text = None, ""
    for _ in range(self.teacher.tries):  # at a temperature above 0, so the next may be fit
      text = await self._reply(client, record)
      fault = check.fault(text, self.limits)
      if fault is None:
        break
    return fault, text

  async def _reply(self, client: Any, record: Record) -> str:
    reply = await client.chat.completions.create(
      model=self.teacher.model,
      messages=prompts.messages(record, "full"),
      max_tokens=self.teacher.max_tokens,
      temperature=self.teacher.temperature,
    )
    # some servers answer a filtered prompt with no choice at all
    content = reply.choices[0].message.content if reply.choices else None
    return _THOUGHT.sub("", content or "").strip()

  def _safe(self, error: Exception) -> str:
    """One line without the key, whatever the endpoint echoes."""
    return " ".join(str(error).split())[:300].replace(self.key, "***")
