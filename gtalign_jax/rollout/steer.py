"""Steering (docs/steering.md): stop at `</payoff>`, edit the payoffs, let the model go on.

Sampled ids are never tokenised again: only tokens that touch the payoff object are replaced.
"""

from __future__ import annotations

import json
import re
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from gtalign_jax.data import prompts
from gtalign_jax.data.records import Record
from gtalign_jax.errors import RunFailure
from gtalign_jax.fields import Table
from gtalign_jax.game import payoff, pricing
from gtalign_jax.models import Policy
from gtalign_jax.models.vocabulary import body, control_ids, spell
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout import generate, stop
from gtalign_jax.rollout.engine import Engine, stream
from gtalign_jax.sections import DataConfig, MeshConfig, RolloutConfig
from gtalign_jax.types import CELLS, ROLES, USER_TYPES

STOP = "</payoff>"
REST = "<analyze>.</analyze><response>.</response>"  # makes a whole chain of a sound opening
BUCKET = 128  # prompts are padded to a multiple of this, tokens
LONGEST = 4096  # of a question with its template, tokens
_NUMBER = re.compile(r"(:\s*)-?\d[-+.\deE]*")  # keys are cells and roles, so a colon tells numbers

# complete(ids of each row, stop strings, draw) -> new ids of each row. All rows of a call draw with
# the same random numbers; another `draw` gives other ones.
Complete = Callable[[Sequence[Sequence[int]], Sequence[str], int], list[list[int]]]


class Opening(NamedTuple):
  """A chain up to `</payoff>`.

  ids: as sampled. text: what they spell. span: characters of the payoff object. payoff_UAR:
  float64.
  user_type: 0 DQ, 1 VQ, -1 undeclared.
  """

  ids: list[int]
  text: str
  span: tuple[int, int]
  payoff_UAR: Any
  user_type: int


class Completer:
  """`Complete` by a policy, on one device.

  Draws are a function of (seed, question, draw, token).
  """

  def __init__(self, policy: Policy, config: RolloutConfig, seed: int, question: str = ""):
    # with the seed alone, one and the same uniforms would pick the action of every question
    self._key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(question.encode()))
    self._policy = policy
    mesh = meshes.make(MeshConfig(), jax.devices()[:1])
    eos_ids = policy.eos_ids
    sampling = generate.sampling_of(
      config, policy.config, eos_ids, eos_ids[0], "float32", group_size=1
    )
    self._engine = Engine(sampling, None, policy.tokenizer, 1, (), Executables(mesh))
    self._engines: dict[tuple[str, ...], Engine] = {}

  def __call__(
    self, ids: Sequence[Sequence[int]], stops: Sequence[str], draw: int
  ) -> list[list[int]]:
    """New ids of each row: up to the token that completes a stop string, or before the EOS."""
    width = -(-max(map(len, ids)) // BUCKET) * BUCKET
    engine = self._stopping_at(tuple(stops))._replace(slots=len(ids), buckets=(width,))
    prompts_P = [np.asarray(row, np.int32) for row in ids]
    row_P = np.zeros(len(ids), np.int32)  # one number for all: rows differ by their prompt alone
    out: list[list[int]] = [[] for _ in ids]
    for ended in stream(engine, self._policy.params, prompts_P, self._key, draw, row_P=row_P):
      for each in ended:
        sampled = each.rollout.tokens_BC[each.rollout.mask_BC]
        out[each.prompt] = body(sampled, self._policy.eos_ids)
    return out

  def _stopping_at(self, stops: tuple[str, ...]) -> Engine:
    """The engine for these stop strings; each set has a table, and so programs, of its own size."""
    if stops not in self._engines:
      table = stop.stop_table(self._policy.tokenizer, stops, self._policy.config.vocab_size)
      mesh = self._engine.programs.mesh
      placed = distributed.to_device(table, sharding.replicated(mesh))
      self._engines[stops] = self._engine._replace(stop_table=placed, programs=Executables(mesh))
    return self._engines[stops]


def question_ids(
  tokenizer: Any, question: str, template: str, arguments: Table | None = None
) -> list[int]:
  """The prompt that asks `question` under the project's instructions, as token ids.

  arguments: of the model's chat template. Raises BadInput where it knows them not.
  """
  record = Record("question", "question", [{"role": "user", "content": question}], None, {})
  config = DataConfig(
    template=template, template_arguments=arguments or Table(), max_prompt_tokens=LONGEST
  )
  return prompts.encode([record], tokenizer, config).ids[0].tolist()


def read(tokenizer: Any, ids: Sequence[int]) -> Opening | str:
  """The opening that `ids` spell, or the reason (one of `chain.ERRORS`) why it cannot be edited."""
  text = spell(tokenizer, ids)
  if not control_ids(tokenizer).isdisjoint(ids):
    return "stray_text"
  end = text.find(STOP) + len(STOP)
  if end < len(STOP):
    return chain.parse(text).error or "missing_block"
  found = chain.parse(text[:end] + REST)
  if found.error or found.payoff is None or found.spans[1] is None:
    return found.error or "payoff_syntax"
  if np.abs(found.payoff).max() > pricing.LARGEST:
    return "payoff_value"
  first, last = found.spans[1]
  block = text[first:last]
  start = first + len(block) - len(block.lstrip())
  span = (start, start + len(block.strip()))
  return Opening(list(ids), text, span, found.payoff, features.user_type(found.thinking or ""))


def rewrite(written: str, payoff_UAR: Any) -> str:
  """The payoff object `written` with other numbers, one decimal each; all else stays as it is.

  written: JSON that the strict reading accepts, cells and roles in any order.
  """
  values = payoff_UAR.reshape(len(CELLS), len(ROLES))
  order = [(cell, role) for cell, roles in json.loads(written).items() for role in roles]
  numbers = (f"{values[CELLS.index(cell), ROLES.index(role)]:.1f}" for cell, role in order)
  return _NUMBER.sub(lambda match: match[1] + next(numbers), written)


def splice(tokenizer: Any, opening: Opening, new: str) -> list[int]:
  """Ids of the opening with `new` in place of its payoff object.

  Tokens that lie outside the object stay; those that touch it are replaced by tokens of `new` and
  of what else they held. Raises RunFailure where the tokenizer cannot spell that.
  """
  (start, end), ids, text = opening.span, opening.ids, opening.text
  offsets = chain.token_offsets(ids, lambda part: spell(tokenizer, part))
  begins, ends = [each[0] for each in offsets], [each[1] for each in offsets]
  first = bisect_right(ends, start)
  last = bisect_left(begins, end, lo=first)
  kept, resumed = [0, *ends][first], [*begins, len(text)][last]
  middle, wanted = text[kept:start] + new + text[end:resumed], text[:start] + new + text[end:]
  # sentencepiece writes a space before the first word; a line break in front takes it
  for anchor in ("", "\n"):
    head = tokenizer.encode(anchor, add_special_tokens=False)
    made = tokenizer.encode(anchor + middle, add_special_tokens=False)
    out = [*ids[:first], *made[len(head) :], *ids[last:]]
    if made[: len(head)] == head and spell(tokenizer, out) == wanted:
      return out
  raise RunFailure("the model's tokenizer cannot spell the edited payoffs inside the chain")


def sample_opening(
  tokenizer: Any, complete: Complete, prompt: Sequence[int], stops: Sequence[str], tries: int
) -> tuple[Opening, int]:
  """The first readable opening of `tries`, and which draw it was; RunFailure if none is."""
  reasons = []
  for draw in range(tries):
    found = read(tokenizer, complete([prompt], (STOP, *stops), draw)[0])
    if isinstance(found, Opening):
      return found, draw
    reasons.append(found)
  raise RunFailure(
    f"no readable payoffs in {tries} tries ({', '.join(reasons)}); raise --tries or "
    "--max-new-tokens, or use a model trained on chains (gtalign sft)"
  )


def steer(
  tokenizer: Any,
  complete: Complete,
  prompt: Sequence[int],
  policies: Sequence[pricing.Pricing],
  stops: Sequence[str],
  tries: int,
) -> list[dict]:
  """One result a policy: the chain as it went on by itself, and as it went on from the edit.

  Keys as in `gtalign steer --json`: docs/steering.md. Raises RunFailure where no chain can be
  edited.
  """
  opening, draw = sample_opening(tokenizer, complete, prompt, stops, tries)
  own = opening.text[slice(*opening.span)]
  matrices = [pricing.apply(policy, opening.payoff_UAR) for policy in policies]
  heads = [opening.ids, *(splice(tokenizer, opening, rewrite(own, each)) for each in matrices)]
  tails = complete([[*prompt, *head] for head in heads], stops, draw)
  texts = [spell(tokenizer, head + tail) for head, tail in zip(heads, tails, strict=True)]
  declared = (*USER_TYPES, None)[opening.user_type]  # -1: undeclared
  before = _outcome(opening.payoff_UAR, opening.user_type, texts[0])
  results = []
  for policy, matrix, text in zip(policies, matrices, texts[1:]):
    after = _outcome(matrix, opening.user_type, text)
    edited = {"edited" if k == "payoff" else f"edited_{k}": v for k, v in after.items()}
    head = {"pricing": policy.name, "user_type": declared, "try": draw + 1}
    results.append(head | before | edited)
  return results


def _outcome(payoff_UAR: Any, user_type: Any, text: str) -> dict[str, Any]:
  """What one chain says: its matrix, the choice on it, and what the model made of it."""
  read_back = chain.parse(text)
  named = features.named_cell(read_back.analyze or "")
  return {
    "payoff": {c: dict(zip(ROLES, p)) for c, p in zip(CELLS, payoff_UAR.reshape(6, 2).tolist())},
    "choice": CELLS[int(payoff.choose(payoff_UAR, user_type))],
    "named": CELLS[named] if named >= 0 else None,
    "parse_error": read_back.error,
    "response": read_back.response,
    "completion": text,
  }
