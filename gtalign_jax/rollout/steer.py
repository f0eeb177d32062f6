"""Steering (docs/steering.md): stop at `</payoff>`, edit the payoffs, let the model go on."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gtalign_jax.data import prompts
from gtalign_jax.data.records import Record
from gtalign_jax.errors import RunFailure
from gtalign_jax.fields import Table
from gtalign_jax.game import payoff, pricing
from gtalign_jax.models import Policy
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.parallel import distributed, sharding
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel.programs import Executables
from gtalign_jax.rewards import chain, features
from gtalign_jax.rollout import generate, stop
from gtalign_jax.rollout.edit import STOP, Opening, read, rewrite, splice
from gtalign_jax.rollout.engine import Engine
from gtalign_jax.rollout.intervene import completions
from gtalign_jax.sections import DataConfig, MeshConfig, RolloutConfig
from gtalign_jax.types import CELLS, ROLES, USER_TYPES

BUCKET = 128  # prompts are padded to a multiple of this, tokens
LONGEST = 4096  # of a question with its template, tokens

# complete(ids of each row, stop strings, draw) -> new ids of each row. All rows of a call draw with
# the same random numbers; another `draw` gives other ones.
Complete = Callable[[Sequence[Sequence[int]], Sequence[str], int], list[list[int]]]


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
    numbers = [0] * len(ids)  # one for all: rows differ by their prompt alone
    return completions(engine, self._policy.params, self._key, draw, prompts_P, numbers)

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
