"""SFT chains from a teacher behind an OpenAI-compatible endpoint; only fit ones are kept.

Every answer goes to `OUT.jsonl.part` at once, so a run that was stopped continues where it was;
`OUT.jsonl` appears whole at the end.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gtalign_jax import finished, jsonl
from gtalign_jax.data import prompts
from gtalign_jax.data.records import Record
from gtalign_jax.endpoint.background import Loop
from gtalign_jax.endpoint.reply import spoken
from gtalign_jax.endpoint_sections import TeacherConfig
from gtalign_jax.errors import BadInput, RunFailure
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.synthesize import check
from gtalign_jax.types import GAME

if TYPE_CHECKING:
  from gtalign_jax.endpoint.client import Endpoint

log = logging.getLogger(__name__)
Chat = list[dict[str, str]]


def row(record: Record, completion: str) -> dict[str, Any]:
  """One line of a file of chains; `data.records.from_row` reads the record back."""
  return record._asdict() | {"completion": completion}


def distil(
  records: Sequence[Record],
  teacher: TeacherConfig,
  limits: RewardConfig,
  out: Path,
  on_done: Callable[[int, int], None] = lambda done, total: None,
  overwrite: bool = False,
  form: str = GAME,
) -> dict[str, Any]:
  """Writes one fit chain per record to `out`; returns counts.

  Counts: prompts, kept, rejected (by reason, see `check.fault`), failed (requests without an
  answer; the next run asks them again). An `out` of the same job is done: its prompts without chain
  are counted as rejected `before`. Raises BadInput where it is another's, its part file belongs
  to another job, or the endpoint cannot be asked; RunFailure where the endpoint refuses every
  request, some got no answer, or no chain was fit.
  """
  part, job = out.with_name(out.name + ".part"), _job(records, teacher, form)
  if finished.is_done(out, json.dumps(job), overwrite):  # hours of paid answers
    log.info("%s is finished; nothing to do", out)
    fit_before = len(jsonl.read(out))
    rejected = {"before": len(records) - fit_before} if fit_before < len(records) else {}
    return {"prompts": len(records), "kept": fit_before, "rejected": rejected, "failed": 0}
  answers = _resume(part, job)
  wanted = [record for record in records if record.id not in answers]
  log.info("teacher: %d prompts, %d answered before", len(records), len(answers))
  failed = 0
  if wanted:
    from gtalign_jax.endpoint.client import Endpoint  # deferred: httpx2, which labels do without

    endpoint = Endpoint(teacher)  # first: a start that fails leaves no part file behind
    jsonl.write(part, [job, *answers.values()])
    with part.open("a", encoding="utf-8") as file:
      fault = functools.partial(check.fault, limits=limits, form=form)
      chats = {record.id: prompts.messages(record, "full", form=form) for record in wanted}
      failed = _ask(chats, endpoint, teacher, fault, file, answers, len(records), on_done)
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
  finished.sign(out, json.dumps(job))
  return counts


def _job(records: Sequence[Record], teacher: TeacherConfig, form: str = GAME) -> dict[str, Any]:
  """What answers in a part file depend on."""
  # not the sampling settings: chains of another temperature are as good; nor the address
  asked = json.dumps([[each.id, prompts.messages(each, "full", form=form)] for each in records])
  digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
  return {"model": teacher.model, "prompts": len(records), "digest": digest}


def _resume(part: Path, job: dict[str, Any]) -> dict[str, dict[str, Any]]:
  """Answers of an earlier run by id; a line that a kill broke off is dropped, and asked again."""
  rows = [row for _, row in jsonl.read_sound(part, [])] if part.exists() else []
  if len(rows) < 2:  # no answers: of a first try with a wrong model, say
    return {}
  if rows[0] != job:
    raise BadInput(f"{part} belongs to another job ({rows[0]}); remove it or choose another output")
  return {each["id"]: each for each in rows[1:]}


def _ask(
  asked: Mapping[str, Chat],
  endpoint: Endpoint,
  teacher: TeacherConfig,
  fault_of: Callable[[str], str | None],
  file: TextIO,
  answers: dict[str, dict[str, Any]],
  total: int,
  on_done: Callable[[int, int], None],
) -> int:
  """Puts every chat and writes each answer down; returns how many got none."""
  loop = Loop()
  refused: list[dict[str, Any]] = []

  def keep(answer: dict[str, Any]) -> None:
    answers[answer["id"]] = answer
    file.write(json.dumps(answer) + "\n")
    file.flush()  # each answer was paid for
    on_done(len(answers), total)

  async def one(record_id: str, chat: Chat) -> bool:
    async with endpoint.places:  # all tasks exist at once; this bounds the open requests
      reply = await endpoint.ask(
        chat, lambda text: fault_of(spoken(text)) is None, samples=teacher.tries
      )
    if reply is None:
      return False
    text = spoken(reply.text)
    fault = reply.fault or fault_of(text)
    answer = {"id": record_id, "fault": fault, "completion": None if fault else text}
    if reply.fault.startswith("http_"):
      refused.append(answer)
    else:
      keep(answer)
    return True

  async def everyone() -> int:
    try:
      async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(*each)) for each in asked.items()]
    except ExceptionGroup as failed:  # the first request at fault has cancelled the others
      raise failed.exceptions[0] from None
    return sum(not task.result() for task in tasks)

  try:
    failed = loop.run(everyone())
  finally:
    loop.close(endpoint.close())
  if refused and not endpoint.replied:  # a prompt is at fault only beside others that are not
    raise RunFailure(
      f"teacher.base_url={teacher.base_url!r} refused every prompt ({refused[0]['fault']}); "
      "nothing was written down; correct the request (docs/judges.md) and run it again"
    )
  for answer in refused:  # written down, so that no later run pays for asking again
    keep(answer)
  return failed
