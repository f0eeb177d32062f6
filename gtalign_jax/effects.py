"""Settings without effect: which keys do nothing in which configs.

A knob that is turned and moves nothing looks, from outside, like one that was tried. So a key that
was set to another value than its default, and that nothing reads in this config, is refused
(`config.vary`, `config.load`). A new key that depends on others is one more line of `RULES`.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.types import has_payoff

Values = Mapping[str, Any]  # dotted key -> value, of a whole config


class Rule(NamedTuple):
  """Some keys have an effect only where `works`.

  keys: dotted; a `*` at the end stands for the rest. switch: the key that decides, which the
  message shows. fix: what to do to it.
  """

  keys: tuple[str, ...]
  switch: str
  works: Callable[[Values], bool]
  fix: str


def _positive(key: str) -> Callable[[Values], bool]:
  return lambda values: values[key] > 0


def _is(key: str, *names: str) -> Callable[[Values], bool]:
  return lambda values: values[key] in names


def _is_not(key: str, *names: str) -> Callable[[Values], bool]:
  return lambda values: values[key] not in names


def _trains(values: Values) -> bool:
  return values["grpo.steps"] > 0 or values["sft.steps"] > 0


_WATCHED = ("window", "distinct_fall", "icc_fall", "parse_fall", "answer_fall", "clipped", "kl")
_ENDPOINT = (
  "api_key_env", "temperature", "max_tokens", "max_tokens_key", "extra_body", "concurrency",
  "deadline_s", "max_attempts", "breaker_failures", "breaker_cooldown_s",
)  # fmt: skip


def _answerer(section: str) -> tuple[Rule, Rule]:
  """What a judge or a user that is no endpoint, or no log, does not read."""
  kind, asked = f"{section}.kind", ("model", "base_url", "cache", *_ENDPOINT)
  return (
    Rule(tuple(f"{section}.{key}" for key in asked), kind, _is(kind, "http"), "take http"),
    Rule((f"{section}.log",), kind, _is(kind, "recorded"), "take recorded"),
  )


RULES = (
  # phases that a run does not have
  Rule(
    (
      "grpo.*", "optim.*", "critic.*", "rollout.group_size", "rollout.temperature",
      "rollout.intervene", "data.weights",
      "rewards.source_norm", "checkpoint.every", "eval.every", "log.samples",
      *(f"watch.{key}" for key in _WATCHED),
    ),
    "grpo.steps", _positive("grpo.steps"), "give GRPO steps",
  ),
  Rule(("sft.*",), "sft.steps", _positive("sft.steps"), "give the warm start steps"),
  Rule(
    ("policy.remat", "checkpoint.keep", "watch.skipped"),
    "grpo.steps", _trains, "train for some steps",
  ),
  # conversations
  Rule(
    (
      "conversation.max_context_tokens", "conversation.context_buckets",
      "conversation.rows_at_once", "conversation.user.*", "rewards.user_patience",
      "rewards.llm_patience",
    ),
    "conversation.turns", lambda values: values["conversation.turns"] > 1, "take 2 or more turns",
  ),
  *_answerer("conversation.user"),
  Rule(
    ("conversation.user.persona", "conversation.user.max_words"), "conversation.user.kind",
    _is("conversation.user.kind", "http", "policy"), "take http or policy",
  ),
  Rule(
    ("rollout.constrain",), "chain.form", _is_not("chain.form", "none"), "take game or think",
  ),
  # a preset may bring these along: whoever reads them asks for a matrix first
  Rule(
    (
      "sft.counterfactual", "rollout.intervene", "eval.intervene_prompts",
      "rewards.llm_calibration",
    ),
    "chain.form", lambda values: has_payoff(values["chain.form"]), "take game",
  ),
  # policy and data
  Rule(
    ("policy.lora_alpha", "policy.lora_rank_stabilised", "policy.lora_targets"),
    "policy.lora_rank", _positive("policy.lora_rank"), "give the adapters a rank",
  ),
  Rule(
    ("data.weights",), "data.sources", lambda values: len(values["data.sources"]) != 1,
    "name two sources or more",
  ),
  Rule(
    ("data.condition_alphas",), "data.condition", _is("data.condition", "alpha"), "take alpha",
  ),
  Rule(
    ("data.condition_policies",), "data.condition", _is("data.condition", "pricing"),
    "take pricing",
  ),
  # rewards: a prompt's own weight or prices take their place
  Rule(("rewards.alpha",), "data.condition", _is_not("data.condition", "alpha"), "take none"),
  Rule(("rewards.pricing",), "data.condition", _is_not("data.condition", "pricing"), "take none"),
  Rule(
    (
      "rewards.alpha", "rewards.cq_max_words", "rewards.aq_min_words", "rewards.welfare",
      "rewards.rho", "rewards.disagreement", "rewards.llm_calibration", "rewards.pricing",
    ),
    "rewards.mode", _is("rewards.mode", "corrected"), "take corrected",
  ),
  Rule(
    ("rewards.alpha",), "rewards.welfare",
    _is("rewards.welfare", "", "cobb_douglas", "ces"), "take cobb_douglas or ces",
  ),
  Rule(("rewards.rho",), "rewards.welfare", _is("rewards.welfare", "ces"), "take ces"),
  Rule(("rewards.disagreement",), "rewards.welfare", _is("rewards.welfare", "nash"), "take nash"),
  Rule(
    ("rewards.llm_format", "rewards.llm_decision", "rewards.llm_answer", "rewards.llm_length"),
    "rewards.variant", _is_not("rewards.variant", "pareto"),
    "take another variant (pareto has the published weights)",
  ),
  # of terms that weigh nothing
  Rule(
    ("rewards.response_words",),
    "rewards.user_length", _positive("rewards.user_length"), "give the term a weight",
  ),
  Rule(
    ("rewards.completion_words",), "rewards.llm_length",
    lambda values: values["rewards.llm_length"] > 0 or values["rewards.variant"] == "pareto",
    "give the term a weight",
  ),
  Rule(
    ("rewards.brief_scale",),
    "rewards.user_brief", _positive("rewards.user_brief"), "give the term a weight",
  ),
  *_answerer("rewards.judge"),
  Rule(
    tuple(f"teacher.{key}" for key in ("tries", *_ENDPOINT)),
    "teacher.model", lambda values: values["teacher.model"] != "", "name a model",
  ),
  Rule(
    tuple(f"endpoint.{key}" for key in _ENDPOINT),
    "endpoint.model", lambda values: values["endpoint.model"] != "", "name a model",
  ),
  # the pair (U, L) is all that gdpo looks at, never their welfare
  Rule(
    ("rewards.alpha", "rewards.welfare", "rewards.rho", "rewards.disagreement"),
    "grpo.advantage", _is_not("grpo.advantage", "gdpo"), "take another advantage",
  ),
  Rule(
    ("rewards.variant",), "grpo.advantage",
    lambda values: values["grpo.advantage"] != "gdpo" or values["rewards.variant"] == "pareto",
    "take another advantage",
  ),
  Rule(
    ("grpo.gdpo_weights",),
    "grpo.advantage", _is("grpo.advantage", "gdpo"), "take gdpo",
  ),
  # the loss
  Rule(
    ("grpo.kind", "grpo.clip_low", "grpo.clip_high", "grpo.dual_clip"),
    # with one update per rollout every ratio is 1: all losses, clipped or not, have one gradient
    "grpo.inner_epochs",
    lambda values: values["grpo.inner_epochs"] > 1
    or 0 < values["grpo.minibatch_prompts"] < values["grpo.prompts_per_step"],
    "take 2 or more updates per rollout (that, or a smaller grpo.minibatch_prompts)",
  ),
  # a critic's advantages differ within a group of equal rewards, too
  Rule(
    ("grpo.resample_rounds",), "grpo.advantage", _is_not("grpo.advantage", "gae"),
    "take another advantage",
  ),
  Rule(("critic.*",), "grpo.advantage", _is("grpo.advantage", "gae"), "take gae"),
  Rule(
    ("critic.optim.final_lr_frac",),
    "critic.optim.decay", _is_not("critic.optim.decay", "constant"), "take linear or cosine",
  ),
  Rule(("grpo.dual_clip",), "grpo.kind", _is_not("grpo.kind", "cispo"), "take grpo or gspo"),
  Rule(
    ("grpo.kl_estimator", "watch.kl"),
    "grpo.kl_coef", _positive("grpo.kl_coef"), "raise it above 0",
  ),
  Rule(
    ("grpo.mismatch_mode", "grpo.mismatch_bounds"),
    "grpo.mismatch", _is_not("grpo.mismatch", "off"), "take token or sequence",
  ),
  Rule(
    ("grpo.train_samples",), "rollout.group_size",
    lambda values: values["grpo.train_samples"] < values["rollout.group_size"],
    "sample more (all of them are trained on as it is)",
  ),
  # schedules
  Rule(
    ("optim.final_lr_frac",),
    "optim.decay", _is_not("optim.decay", "constant"), "take linear or cosine",
  ),
  Rule(
    ("sft.optim.final_lr_frac",),
    "sft.optim.decay", _is_not("sft.optim.decay", "constant"), "take linear or cosine",
  ),
  # greedy evaluations, and no rollouts: nothing is drawn
  Rule(
    ("rollout.top_k", "rollout.top_p", "rollout.min_p"), "eval.temperature",
    lambda values: values["grpo.steps"] > 0 or values["eval.temperature"] > 0,
    "raise it above 0",
  ),
)  # fmt: skip


def inert(values: Values, defaults: Values, keys: Iterable[str]) -> dict[str, str]:
  """key -> why it has no effect, for those of `keys` that differ from their default in vain."""
  found: dict[str, str] = {}
  for key in keys:
    rule = silenced(values, key)
    if rule is not None and values[key] != defaults[key]:
      found[key] = (
        f"{key}={values[key]!r} has no effect with {rule.switch}={values[rule.switch]!r}; "
        f"{rule.fix}, or leave {key} at {defaults[key]!r}"
      )
  return found


def silenced(values: Values, key: str) -> Rule | None:
  """The first rule by which `key` does nothing in a config of these values; None: it does."""
  rules = (each for each in RULES if covers(each, key) and key != each.switch)
  return next((each for each in rules if not each.works(values)), None)


def covers(rule: Rule, key: str) -> bool:
  """Whether `key` is one of the keys of `rule`."""
  return any(key.startswith(each[:-1]) if each.endswith("*") else key == each for each in rule.keys)
