"""The solution of concierge's game: what each first action earns a perfect speaker.

Closed form over what the user may mean and how the conversation then goes (FORMULAS 11), through
the reward's own kernel; a perfect speaker's chains (data/concierge_chain.py) give the lengths.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from gtalign_jax.concierge_words import Kind
from gtalign_jax.config import Config
from gtalign_jax.data import concierge_chain as chains
from gtalign_jax.data.concierge_chain import Case
from gtalign_jax.data.records import Record
from gtalign_jax.game import conditions, pricing, reward
from gtalign_jax.game import payoff as matrices
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.types import ACTIONS, GAME

Count = Callable[[str], float]
_LETTER = re.compile(r"\S")


class _Way(NamedTuple):
  """One course of a conversation: first action, probability, credit of the answer, its chains."""

  action: int
  probability: float
  credit: float
  chains: tuple[chains.Chain, ...]


def true_payoffs(
  record: Record,
  config: Config | RewardConfig,
  *,
  turns: int | None = None,
  tokens: Count | None = None,
  form: str | None = None,
) -> np.ndarray:
  """Expected utilities [A, R] in [0, 1] of an assistant that writes perfectly, by first action.

  config: a Config, or its section `rewards`; paper mode knows neither patience nor prices. turns:
  K, by default `conversation.turns` of a Config, and 2 with a section alone. tokens: counts those
  of a text, for prices per token; by default one for four characters. form: by default
  `chain.form` of a Config, and game with a section alone. The chains are those of
  `speak`, so that format and d (in paper mode what stands in its place) are 1. A condition of the
  record counts. Expectations are over what the user means.
  """
  case, form = chains.case(record.extra_info), _form(config) if form is None else form
  return _solve(record, case, config, turns, tokens, form)[:, :2].copy()


def _form(config: Config | RewardConfig) -> str:
  return config.chain.form if isinstance(config, Config) else GAME


def true_score(
  record: Record, config: Config | RewardConfig, *, turns: int | None = None
) -> np.ndarray:
  """Expected score [A] of each first action, which is what training maximises; as above."""
  case = chains.case(record.extra_info)
  return _solve(record, case, config, turns, form=_form(config))[:, 2].copy()


def best_action(
  record: Record,
  config: Config | RewardConfig,
  *,
  turns: int | None = None,
  tokens: Count | None = None,
) -> str:
  """The first action whose true payoffs have the largest welfare; the first one where they tie.

  As in `game/regret`, the welfare of expected utilities. The expected score may rank two actions
  that are nearly equal the other way round, as a welfare function need not be linear.
  """
  llm_A, user_A = true_payoffs(record, config, turns=turns, tokens=tokens).T
  rewards = config.rewards if isinstance(config, Config) else config
  alpha = conditions.of(record.extra_info, record.id).alpha
  alpha = rewards.alpha if alpha is None else alpha
  score_A: Any = reward.worth(user_A, llm_A, rewards, rewards.variant, alpha)[1]
  return ACTIONS[int(np.argmax(score_A))]


def spoken(record: Record, tokens: Count | None = None) -> np.ndarray:
  """Expected tokens and characters of all responses, [2, A] by first action; two turns, as above.

  What a price is charged on.
  """
  case, count = chains.case(record.extra_info), tokens or _four_characters
  total_2A = np.zeros((2, len(ACTIONS)))
  for way in _ways(case, record.extra_info["q"], 2):
    texts = [each.response for each in way.chains]
    total_2A[:, way.action] += way.probability * np.array(
      [sum(map(f, texts)) for f in (count, len)]
    )
  return total_2A


def matrix(
  record: Record, config: Config | RewardConfig, *, turns: int | None = None
) -> np.ndarray:
  """The honest matrix: int tenths of payoff [U, A, R].

  The row of the record's own type holds its true payoffs, the other row those of the same request
  with the open slot named (DQ) or left out (VQ). Of the form game, whatever form is written: so
  that perfect speakers of all forms do the same.
  """
  case = chains.case(record.extra_info)
  full = {case.kind.open: case.kind.default} | case.slots
  bare = {slot: value for slot, value in full.items() if slot != case.kind.open}
  cases = case._replace(slots=full, lacking=False), case._replace(slots=bare, lacking=True)
  return chains.rounded(np.stack([_solve(record, each, config, turns)[:, :2] for each in cases]))


def choice(record: Record, config: Config | RewardConfig, *, turns: int | None = None) -> str:
  """What the chain's rule takes by the honest matrix: the largest sum, not the largest score."""
  return _choice(matrix(record, config, turns=turns), chains.case(record.extra_info))


def _choice(tenths_UAR: np.ndarray, case: Case) -> str:
  matrix_BUAR: Any = tenths_UAR[None] / 10
  row_B: Any = np.array([case.user_type])
  return ACTIONS[int(matrices.choose(matrix_BUAR, row_B)[0]) % 3]


def speak(
  record: Record,
  action: str | None,
  config: Config | RewardConfig,
  reply: str | None = None,
  *,
  turns: int | None = None,
) -> str:
  """The completion of an assistant that writes perfectly: the honest matrix, and `action`; of it
  what the form of a Config has.

  action None: the choice of that matrix; where another one is given, the two change places in the
  row, for what is named is done. reply: what the user said to an earlier turn; its value of the
  open slot then goes into the response, and the request counts as definite.
  """
  case = chains.case(record.extra_info)
  if reply is not None:
    value = chains.heard(case.kind, reply)
    named = {} if value is None else {case.kind.open: value}
    case = case._replace(slots=case.slots | named, replied=True)
  tenths_UAR, u = matrix(record, config, turns=turns), case.user_type
  best = ACTIONS.index(_choice(tenths_UAR, case))
  act = best if action is None else ACTIONS.index(action)
  tenths_UAR[u, [act, best]] = tenths_UAR[u, [best, act]]
  return chains.write(case, act, tenths_UAR).text(_form(config))


def _solve(
  record: Record,
  case: Case,
  config: Config | RewardConfig,
  turns: int | None,
  tokens: Count | None = None,
  form: str = GAME,
) -> np.ndarray:
  """Expected (L, U, score) of each action, [A, 3]; not to be written to."""
  rewards = config.rewards if isinstance(config, Config) else config
  if turns is None:
    turns = config.conversation.turns if isinstance(config, Config) else 2
  slots = case.slots
  if tokens is None:  # lengths are all that counts: requests of the same lengths are one game
    slots = {slot: _LETTER.sub("x", value) for slot, value in slots.items()}
  condition = conditions.of(record.extra_info, record.id)
  policy = conditions.prices(condition, rewards.pricing)
  alone = case.kind, tuple(slots.items()), case.lacking, record.extra_info["q"]
  count = tokens or _four_characters
  return _solved(*alone, rewards, policy, condition.alpha, turns, count, form)


@functools.lru_cache(maxsize=4096)
def _solved(
  kind: Kind,
  slots: tuple[tuple[str, str], ...],
  lacking: bool,
  q: float,
  rewards: RewardConfig,
  policy: pricing.Pricing | None,
  alpha: float | None,
  turns: int,
  tokens: Count,
  form: str,
) -> np.ndarray:
  rewards = rewards.in_form(form)
  ways = list(_ways(Case(kind, dict(slots), lacking), q, turns))
  request = _request(ways, rewards, policy, alpha, tokens)
  found = reward.terms(_features(ways, form), rewards, rewards.mode, rewards.variant, request)
  total_AC = np.zeros((len(ACTIONS), 3))
  values_BC = np.stack([found.llm, found.user, found.score], axis=-1)
  weight_B = np.array([way.probability for way in ways])
  np.add.at(total_AC, [way.action for way in ways], weight_B[:, None] * values_BC)
  return total_AC


def _ways(case: Case, q: float, turns: int) -> Iterator[_Way]:
  """Every course of a conversation in at most `turns` turns; probabilities sum to 1 by action."""
  kind, zeros = case.kind, np.zeros((2, 3, 2), int)
  values = [(1.0, case.slots.get(kind.open, kind.default))]
  if case.lacking:
    rest = (1 - q) / len(kind.others)
    values = [(q, kind.default), *((rest, value) for value in kind.others)]
  first = [chains.write(case, action, zeros) for action in range(len(ACTIONS))]
  direct, asks, both = range(len(ACTIONS))
  for probability, value in values:
    told = case._replace(slots=case.slots | {kind.open: value}, replied=True)
    last = chains.write(told, direct, zeros)
    right = not case.lacking or value == kind.default
    yield _Way(direct, probability, float(right), (first[direct],))
    if turns > 1:
      yield _Way(asks, probability, 1.0, (first[asks], last))
    else:  # the question stands alone
      yield _Way(asks, probability, 0.0, (first[asks],))
    if right or turns == 1:
      yield _Way(both, probability, float(right), (first[both],))
    else:
      yield _Way(both, probability, reward.UNDONE, (first[both], last))


def _features(ways: list[_Way], form: str) -> reward.Features:
  def column(values: Iterator[float]) -> Any:
    return np.fromiter(values, float, len(ways))

  credit_B = column(way.credit for way in ways)
  return reward.Features(
    answer_user=credit_B,
    answer_llm=credit_B,
    # the words are English, which white space divides
    response_words=column(len(way.chains[-1].response.split()) for way in ways),
    completion_words=column(sum(len(c.text(form).split()) for c in way.chains) for way in ways),
    brief_chars=column(sum(c.reasoning(form) for c in way.chains) for way in ways),
    format=column(1.0 for _ in ways),
    decision=column(1.0 for _ in ways),
    pareto=1.0,
  )


def _request(
  ways: list[_Way],
  rewards: RewardConfig,
  policy: pricing.Pricing | None,
  alpha: float | None,
  tokens: Count,
) -> reward.Request:
  """What the conversations are charged, how they are weighed, and the patience they cost."""
  charge_BR: Any = None
  if policy is not None:
    said = [[each.response for each in way.chains] for way in ways]
    charge_BR = np.array([
      pricing.charge(policy, way.action, sum(map(tokens, texts)), sum(map(len, texts)))
      for way, texts in zip(ways, said, strict=True)
    ])  # fmt: skip
  turns_B: Any = np.array([float(len(way.chains)) for way in ways])
  attention_B: Any = np.array([
    reward.ATTENTION if ACTIONS[way.action] == "AQ" else 1.0 for way in ways
  ])  # fmt: skip
  alpha_B: Any = None if alpha is None else np.full(len(ways), alpha)
  return reward.Request(alpha_B, charge_BR, reward.patience(rewards, turns_B, attention_B))


def _four_characters(text: str) -> float:
  return len(text) / 4
