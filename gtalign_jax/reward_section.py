"""The section `rewards`: what a completion is worth. Rules as in sections.py."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table, at_least, at_most, band, fraction, one_of, positive, settle
from gtalign_jax.types import has_payoff

MODES = ("corrected", "paper")
USER_WEIGHTS = ("user_answer", "user_length", "user_brief")  # keys of `RewardConfig`
LLM_WEIGHTS = ("llm_format", "llm_decision", "llm_answer", "llm_length")
WELFARES = ("cobb_douglas", "utilitarian", "egalitarian", "nash", "ces", "user", "llm")
# what the paper's variants score, as one of WELFARES
WELFARE_OF = {
  "cobb_douglas": "cobb_douglas", "user": "user", "llm": "llm", "linear": "utilitarian",
  "pareto": "cobb_douglas",
}  # fmt: skip
VARIANTS = tuple(WELFARE_OF)
SOURCE_NORMS = (
  "none", "zscore", "minmax", "robustz", "cdf", "quantile", "james", "decentralize", "selfadapt",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
  """The mutual-welfare reward; weights as in the paper (corrected mode reads the same names)."""

  mode: str = "corrected"  # corrected | paper
  variant: str = "cobb_douglas"  # VARIANTS: the paper's scores; pareto in paper mode only
  welfare: str = ""  # WELFARES: what the score is in corrected mode; "" = as the variant names it
  alpha: float = 0.5  # weight of user utility: Cobb-Douglas exponent, or share in ces
  rho: float = -1.0  # of ces: 1 the mean, 0 Cobb-Douglas, far below 0 the minimum
  disagreement: tuple[float, float] = (0.0, 0.0)  # of nash: (U, L) from which gains are counted
  pricing: str = ""  # preset or .toml policy that U and L are charged by (game/pricing); "" = none
  floor: float = 1e-4  # added to U and L
  user_answer: float = 0.5  # weight of the answer in U
  user_length: float = 0.2  # weight of the band of the response length in U
  user_brief: float = 0.3  # weight of brief reasoning in U
  llm_format: float = 0.2  # weight of a chain that can be read in L
  llm_decision: float = 0.2  # weight of d (corrected) or pay (paper)
  llm_calibration: float = 0.0  # how much of it goes to payoffs that come true; 0 = off
  llm_answer: float = 0.4  # weight of the answer in L
  llm_length: float = 0.2  # weight of the band of the completion length in L
  response_words: tuple[int, int] = (20, 500)  # soft band of the response length, words
  completion_words: tuple[int, int] = (500, 1000)  # soft band of the whole completion, words
  length_slope: float = 0.005  # per word, of the sigmoids of both bands
  brief_scale: float = 500.0  # characters of reasoning at which brief falls to 1/e
  cq_max_words: int = 15  # words a CQ response may have outside its question
  aq_min_words: int = 5  # words an AQ response must have outside its question
  user_patience: float = 0.9  # factor on the terms of U for each turn after the first
  llm_patience: float = 0.95  # likewise of L
  source_norm: str = "none"  # SOURCE_NORMS: scores of each source put on one scale
  tasks: Table = field(default_factory=Table)  # own tasks: data_source -> "package.module:function"
  judge: JudgeConfig = field(default_factory=JudgeConfig)

  def __post_init__(self):
    settle("rewards", self)
    one_of("rewards.mode", self.mode, MODES)
    one_of("rewards.variant", self.variant, VARIANTS)
    for source, path in self.tasks.items():
      if not (isinstance(path, str) and re.fullmatch(r"[\w.]+:\w+", path)):
        raise BadInput(
          f"rewards.tasks[{source!r}]={path!r}: must name a function as 'package.module:function'"
        )
    if self.variant == "pareto" and self.mode != "paper":
      raise BadInput("rewards.variant='pareto' exists in rewards.mode='paper' only; set both")
    if self.welfare:
      one_of("rewards.welfare", self.welfare, WELFARES)
      if self.variant != "cobb_douglas" and self.welfare != WELFARE_OF[self.variant]:
        raise BadInput(
          f"rewards.variant={self.variant!r} and rewards.welfare={self.welfare!r} name two scores; "
          "set one of them"
        )
    if min(self.disagreement) < 0:
      raise BadInput(
        f"rewards.disagreement={self.disagreement}: must be at least 0, as utilities are"
      )
    one_of("rewards.source_norm", self.source_norm, SOURCE_NORMS)
    fraction("rewards", self, "alpha")
    fraction("rewards", self, "floor")  # above 1 it drowns what the weights tell apart
    # a negative weight would reward what the term punishes; and the reward is float32 in the end
    at_least("rewards", self, 0, *USER_WEIGHTS, *LLM_WEIGHTS)
    at_most("rewards", self, 1e6, *USER_WEIGHTS, *LLM_WEIGHTS)
    if not 0 <= self.llm_calibration <= self.llm_decision:
      raise BadInput(
        f"rewards.llm_calibration={self.llm_calibration}: is taken from rewards.llm_decision="
        f"{self.llm_decision}; use a number from 0 to that, or raise llm_decision"
      )
    if self._all_equal():
      key = "welfare" if self.welfare else "variant"
      lower = ", or lower rewards.disagreement" if self.welfare == "nash" else ""
      raise BadInput(
        f"rewards.{key}={getattr(self, key)!r} gives every completion the same reward with these "
        f"weights; give one of rewards.{', '.join((*USER_WEIGHTS, *LLM_WEIGHTS))} more than 0"
        + lower
      )
    at_least("rewards", self, 0, "cq_max_words", "aq_min_words")
    positive("rewards", self, "length_slope", "brief_scale", "user_patience", "llm_patience")
    at_most("rewards", self, 1, "user_patience", "llm_patience")  # turns are no gain by themselves
    band("rewards", self, "response_words", "completion_words")

  @property
  def maximised(self) -> str:
    """Which of WELFARES the score is."""
    return self.welfare or WELFARE_OF[self.variant]

  def in_form(self, form: str) -> RewardConfig:
    """The weights for chains of `form` (FORMULAS 10): without a matrix, that of d is the answer's.

    Nor is there anything to come true then. In corrected mode; the same config where nothing moves.
    """
    if has_payoff(form):
      return self
    answer = self.llm_answer + self.llm_decision
    return replace(self, llm_answer=answer, llm_decision=0.0, llm_calibration=0.0)

  def _all_equal(self) -> bool:
    """Whether no completion can earn more than another, whatever it says."""
    most = [sum(getattr(self, key) for key in keys) for keys in (USER_WEIGHTS, LLM_WEIGHTS)]
    user, llm = most[0] > 0, most[1] > 0 or self.variant == "pareto"
    name = self.maximised
    if name in ("cobb_douglas", "ces") and self.mode == "corrected" and self.alpha in (0, 1):
      name = "user" if self.alpha else "llm"
    one = {"user": user, "llm": llm, "utilitarian": user or llm, "egalitarian": user and llm}
    if name in one:
      return not one[name]
    if not (user or llm):
      return True
    if name == "nash":  # a gain that is always 0 takes the other one with it
      return any(self.floor + top <= point for top, point in zip(most, self.disagreement))
    # and so does, in a product, a utility that is always 0
    product = name == "cobb_douglas" or self.rho <= 0
    return product and self.floor == 0 and not (user and llm)
