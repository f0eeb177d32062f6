"""The mutual-welfare reward as one kernel over rows: features and payoffs -> U, L, W, score.

Texts, lengths and verdicts are read by `rewards/`; here are only arrays. Host scoring passes NumPy
float64 (equal to the published formulas to rounding) to `terms` and to the scores one by one.
`kernel` is the same in one jitted call over millions of rows, as a library: the package itself does
not call it; benchmarks/reward_kernel.py holds its speed.
Sources: GTAlign (arXiv 2510.08872) for paper mode; FORMULAS sections 2 and 3.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

from gtalign_jax.arrays import floats
from gtalign_jax.errors import BadInput
from gtalign_jax.game import equilibrium
from gtalign_jax.game import payoff as matrices
from gtalign_jax.game.welfare import welfare
from gtalign_jax.reward_section import VARIANTS, WELFARE_OF, RewardConfig
from gtalign_jax.types import Array

# The paper's pareto variant has its own weights of the LLM's utility (paper mode only). Not in the
# config as the others are: this variant is there to reproduce published numbers.
PARETO = {"pareto": 0.2, "pay": 0.2, "format": 0.2, "answer": 0.35, "length": 0.05}

# Of concierge (FORMULAS section 11), where they decide which action is best: an answer with a
# question behind it takes attention, and what was done on a wrong default has to be undone.
ATTENTION = 0.97  # factor on the user's terms where the first response is AQ, whatever follows
UNDONE = 0.7  # credit of a right answer after one on a default that the user did not mean


OUTCOME_LLM = 0.6  # what the weights of L_out sum to, before it is divided by that


class Features(NamedTuple):
  """What the reward needs of each row, arrays [B] of one float dtype.

  answer_user, answer_llm: A_user, A_llm in [0, 1]; NaN = no verdict (the row's utilities are NaN).
  response_words, completion_words: word counts. brief_chars: characters of reasoning, NaN = none to
  count (brief is 0). format: 0 or 1. decision: d (corrected mode) or pay (paper mode).
  pareto: the second judge's score po (paper mode's pareto variant).
  """

  answer_user: Array
  answer_llm: Array
  response_words: Array
  completion_words: Array
  brief_chars: Array
  format: Array
  decision: Array
  pareto: Array | float = 0.0


class Request(NamedTuple):
  """What requests themselves say of their reward, rows [B] (FORMULAS section 12); None: nothing.

  alpha_B: weight of the user's utility, in place of `rewards.alpha`. charge_BR: what a pricing
  policy adds to each role's utility, in units of utility. patience_BR: factor on the terms of each
  role, the floor excepted: pi^(k-1) after k turns (section 9), and a task's `ATTENTION`.
  """

  alpha_B: Array | None = None
  charge_BR: Array | None = None
  patience_BR: Array | None = None


PLAIN = Request()


class Terms(NamedTuple):
  """U, L, W and the score of each row [B]; NaN where the row has no verdict."""

  user: Array
  llm: Array
  welfare: Array
  score: Array


class KernelResult(NamedTuple):
  """Everything the kernel says of each row [B]; choice: int cell index, decision: d or pay."""

  terms: Terms
  choice: Array
  choice_score: Array
  decision: Array
  equilibria: equilibrium.Equilibria
  outcome: equilibrium.Outcome


def terms(
  features: Features,
  weights: RewardConfig,
  mode: str,
  variant: str = "cobb_douglas",
  request: Request = PLAIN,
) -> Terms:
  """Utilities and score. `weights`: its weights, bands, slope and welfare are read, no other key.

  U = floor + w_answer A_user + w_length len(response) + w_brief brief
  L = floor + w_format format + w_decision decision + w_answer A_llm + w_length len(completion)
  In corrected mode what stands behind `floor +` is multiplied by the request's patience; then each
  gains its charge, but does not fall below the floor; W = U^alpha L^(1-alpha), and the score is the
  welfare function that `rewards.welfare` or the variant names.
  Paper mode has neither patience nor charges; W = sqrt(U L), and the score by variant is
  cobb_douglas W, user U, llm L, linear (U + L)/2; pareto takes L with the weights of `PARETO` and
  scores sqrt(U L). Rows that paper mode zeroes as a whole are the caller's to zero.
  """
  # the config checks this too, but a library has callers without a config
  if variant not in VARIANTS or (variant == "pareto" and mode != "paper"):
    raise BadInput(f"rewards.variant={variant!r} does not exist in rewards.mode={mode!r}")
  xp, *arrays = floats(*features)
  f = Features(*arrays)
  user = _user_utility(f, weights)
  llm = _llm_utility(f, weights, pareto=variant == "pareto")
  if mode == "paper":
    total = welfare("cobb_douglas", user, llm)  # no alpha, whatever the config says
    score = {"user": user, "llm": llm, "linear": (user + llm) / 2}.get(variant, total)
    return Terms(user, llm, total, score)
  if request.patience_BR is not None:
    patience_BR = xp.asarray(request.patience_BR, user.dtype)
    # floor (1 - p) + p x: the very x at p = 1, where floor + p (x - floor) would round
    rest_BR = weights.floor * (1 - patience_BR)
    llm = rest_BR[..., 0] + patience_BR[..., 0] * llm
    user = rest_BR[..., 1] + patience_BR[..., 1] * user
  if request.charge_BR is not None:
    charge_BR = xp.asarray(request.charge_BR, user.dtype)
    llm = xp.maximum(llm + charge_BR[..., 0], weights.floor)
    user = xp.maximum(user + charge_BR[..., 1], weights.floor)
  alpha = weights.alpha if request.alpha_B is None else request.alpha_B
  return Terms(user, llm, *worth(user, llm, weights, variant, alpha))


def outcome(features: Features, weights: RewardConfig, patience_BR: Array | None = None) -> Array:
  """Outcome welfare of each row [B], in [0, 1]; NaN without a verdict (FORMULAS section 10).

  sqrt(U L) with U = 0.5 A_user + 0.2 len(response) + 0.3 brief and L = (0.4 A_llm +
  0.2 len(completion)) / 0.6, each times its patience. Of `weights` the bands, the slope and the
  scale are read. Nothing is for format or decision, so policies with and without a chain compare.
  """
  fixed = RewardConfig(  # whose other weights, by default, are those of the formula
    floor=0.0,
    llm_format=0.0,
    llm_decision=0.0,
    response_words=weights.response_words,
    completion_words=weights.completion_words,
    length_slope=weights.length_slope,
    brief_scale=weights.brief_scale,
  )
  found = terms(features, fixed, "corrected", request=Request(patience_BR=patience_BR))
  return welfare("cobb_douglas", found.user, found.llm / OUTCOME_LLM)


def patience(weights: RewardConfig, turns_B: Array, attention_B: Array | float = 1.0) -> Array:
  """`Request.patience_BR` of conversations of so many turns; exactly 1 for one turn.

  attention_B: further factor on the user's terms, `ATTENTION` where a task has it.
  """
  xp, turns_B, attention_B = floats(turns_B, attention_B)
  after_B, attention_B = xp.broadcast_arrays(turns_B - 1, attention_B)
  return xp.stack(
    [weights.llm_patience**after_B, weights.user_patience**after_B * attention_B], axis=-1
  )


def worth(
  user: Array, llm: Array, weights: RewardConfig, variant: str, alpha: Array | float
) -> tuple[Array, Array]:
  """(W, score) of utilities in corrected mode, as `terms` has them."""
  total = welfare("cobb_douglas", user, llm, alpha)
  name = weights.welfare or WELFARE_OF[variant]
  if name == "cobb_douglas":
    return total, total
  return total, welfare(name, user, llm, alpha, weights.rho, weights.disagreement)


def kernel(
  payoff_BUAR: Array,
  features: Features,
  named_cell: Array,
  user_type: Array,
  carried_out: Array,
  weights: RewardConfig,
  mode: str,
  variant: str = "cobb_douglas",
) -> KernelResult:
  """All of it at once: payoffs and features -> U, L, W, choice, equilibria.

  `features.decision` is not read: it is d of the named cell (int_B, -1 = none), the user type
  (int_B, -1 = undeclared) and carried_out in corrected mode, pay in paper mode. A matrix that is
  not finite has no choice (-1), no equilibria, and choice score 0.
  """
  xp, payoff_BUAR = floats(payoff_BUAR)
  cells = matrices.split(payoff_BUAR)  # once, for front, scores and equilibria
  front = matrices.front_of(xp, cells, user_type)
  choice_score = matrices.score_named(front, named_cell, payoff_BUAR)
  if mode == "paper":
    decision = pay_score(payoff_BUAR)
  else:
    decision = decision_score(choice_score, carried_out)
  found = equilibrium.equilibria_of(xp, cells)
  # whether an outcome is dominated does not depend on the type that the chain declares
  free = matrices.front_of(xp, cells, None)
  return KernelResult(
    terms(features._replace(decision=decision), weights, mode, variant),
    front.choice,
    choice_score,
    decision,
    found,
    equilibrium.outcome_of(xp, cells, found, free.optimal),
  )


def band(words: Array, limits: tuple[float, float], slope: float) -> Array:
  """len(n; a, b) = sigmoid(slope (n - a)) sigmoid(slope (b - n)): a soft band of lengths."""
  xp, words = floats(words)
  low, high = limits
  return _sigmoid(xp, slope * (words - low)) * _sigmoid(xp, slope * (high - words))


def brief(chars: Array, scale: float) -> Array:
  """exp(-chars / scale); 0 where `chars` is NaN (no reasoning to count)."""
  xp, chars = floats(chars)
  missing = xp.isnan(chars)
  # NaN is replaced inside as well: the gradient of the branch not taken would be NaN too
  return xp.where(missing, 0.0, xp.exp(-xp.where(missing, 0.0, chars) / scale))


def pay_score(payoff_BUAR: Array) -> Array:
  """pay of paper mode: over the cells, 1/12 [user != LLM] + 1/12 [they differ by more than 10 %].

  The difference is relative to max(|user|, |LLM|, 1e-8). Use float64: float32 flips the test at its
  edge. NaN and infinities compare as Python floats do.
  """
  xp, payoff_BUAR = floats(payoff_BUAR)
  cells = matrices.split(payoff_BUAR)
  count: Any = 0
  for llm, user in zip(*cells):
    # 1e-8 is the published guard against 0 / 0
    largest = xp.maximum(xp.maximum(abs(user), abs(llm)), 1e-8)
    # a/b > 0.1 as the published code divides; a > 0.1 b rounds differently at the edge
    far = abs(user - llm) / largest > 0.1
    count = count + (user != llm).astype(payoff_BUAR.dtype) + far.astype(payoff_BUAR.dtype)
  return count / 12


def decision_score(choice_B: Array, carried_out_B: Array) -> Array:
  """d = choice/2 + carried_out/2 (corrected mode), in [0, 1]."""
  _, choice_B, carried_out_B = floats(choice_B, carried_out_B)
  return 0.5 * choice_B + 0.5 * carried_out_B


def _user_utility(f: Features, w: RewardConfig) -> Array:
  length = band(f.response_words, w.response_words, w.length_slope)
  return (
    w.floor
    + w.user_answer * f.answer_user
    + w.user_length * length
    + w.user_brief * brief(f.brief_chars, w.brief_scale)
  )


def _llm_utility(f: Features, w: RewardConfig, pareto: bool) -> Array:
  length = band(f.completion_words, w.completion_words, w.length_slope)
  # in the order of the published sums: another order rounds differently
  if pareto:
    parts = [(PARETO["pareto"], f.pareto), (PARETO["pay"], f.decision)]
    parts += [(PARETO["format"], f.format), (PARETO["answer"], f.answer_llm)]
    parts += [(PARETO["length"], length)]
  else:
    parts = [(w.llm_format, f.format), (w.llm_decision, f.decision)]
    parts += [(w.llm_answer, f.answer_llm), (w.llm_length, length)]
  total: Any = w.floor
  for weight, value in parts:
    total = total + weight * value
  return total


def _sigmoid(xp: ModuleType, x: Array) -> Array:
  """1 / (1 + exp(-x)) without overflow at either end."""
  small = xp.exp(-abs(x))  # in (0, 1]: exp(-x) overflows below -745
  return xp.where(x >= 0, 1.0, small) / (1.0 + small)
