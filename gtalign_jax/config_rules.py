"""Rules between the sections of a config; those of one section stand with it."""

from __future__ import annotations

from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.fields import divides
from gtalign_jax.types import BLOCKS, FORMS

Config = Any  # config.Config, which imports this file


def check(config: Config) -> None:
  """Raises BadInput, which names key, value, rule and fix, at the first rule that is broken."""
  rules = (_sampling, _arithmetic, _critic, _condition, _lengths, _form, _intervene)
  for rule in rules:
    rule(config)


def _sampling(config: Config) -> None:
  """Completions that a group can learn from."""
  # groups without spread have no advantages: such a run would train on nothing
  greedy = {"temperature": 0, "top_k": 1, "top_p": 0, "min_p": 1}
  for key, value in greedy.items():
    if config.grpo.steps and getattr(config.rollout, key) == value:
      raise BadInput(
        f"rollout.{key}={value}: all samples of a prompt would be alike, and so their rewards; "
        "sample with some freedom (the evaluation has its own eval.temperature)"
      )
  G, K = config.rollout.group_size, config.grpo.train_samples
  if G < 2 and not config.has_critic:
    raise BadInput(
      f"rollout.group_size={G}: a group baseline needs at least 2 samples; use 2 or more, or a "
      "critic (grpo.advantage='gae')"
    )
  if K > G:
    raise BadInput(
      f"grpo.train_samples={K} is more than rollout.group_size={G}; use fewer, or 0 for all"
    )
  of = "grpo.train_samples" if K else "rollout.group_size"
  divides(config.grpo.micro_samples, K or G, "grpo.micro_samples", of)


def _lengths(config: Config) -> None:
  """Tokens that what reads them has room for."""
  budget, buffer = config.rollout.max_new_tokens, config.grpo.overlong_buffer
  if buffer > budget:
    raise BadInput(
      f"grpo.overlong_buffer={buffer} is more than rollout.max_new_tokens={budget}; use fewer "
      "tokens, or 0 for off"
    )
  largest = config.rollout.prompt_buckets[-1]
  if config.data.max_prompt_tokens > largest:
    raise BadInput(
      f"data.max_prompt_tokens={config.data.max_prompt_tokens} is more than the largest of "
      f"rollout.prompt_buckets={config.rollout.prompt_buckets}; add a bucket or lower the limit"
    )


def _arithmetic(config: Config) -> None:
  """Weights that small steps change, ratios of what was sampled."""
  trains = config.grpo.steps or config.sft.steps
  if trains and config.policy.param_dtype != "float32" and not config.policy.lora_rank:
    raise BadInput(
      f"policy.param_dtype={config.policy.param_dtype!r} with policy.lora_rank=0: it holds the "
      "weights that are trained, and steps of lr 1e-6 are lost in it; use float32 (policy.dtype "
      "is what is computed in), or adapters, which are float32 over any base"
    )
  off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
  cuts = [f"rollout.{k}={v}" for k in off if (v := getattr(config.rollout, k)) != off[k]]
  uses = {"mismatch": "off", "mismatch_veto": None}
  used = [key for key, unset in uses.items() if getattr(config.grpo, key) != unset]
  if used and cuts:
    # the weights would compare the trained policy with another than was sampled
    raise BadInput(
      f"grpo.{used[0]}={getattr(config.grpo, used[0])!r} corrects for a sampler of the whole "
      f"distribution; use {'none' if uses[used[0]] is None else 'off'}, or drop {', '.join(cuts)}"
    )


def _critic(config: Config) -> None:
  """A policy that learns, from turns that its critic can value."""
  if config.has_critic and 0 < config.grpo.steps <= config.critic.warmup_steps:
    raise BadInput(
      f"critic.warmup_steps={config.critic.warmup_steps}: the policy learns after them, and there "
      f"are {config.grpo.steps} steps (grpo.steps) in all; use fewer"
    )
  if config.has_critic and config.conversation.turns > 1:
    raise BadInput(
      f"conversation.turns={config.conversation.turns} with grpo.advantage='gae': a critic values "
      "the tokens of one turn, not what the user's reply is worth; use a group advantage, or 1"
    )


def _condition(config: Config) -> None:
  """Rewards that do what a prompt says of them."""
  condition, score = config.data.condition, config.rewards.maximised
  unread = {
    f"rewards.mode={config.rewards.mode!r}": config.rewards.mode == "paper",
    f"the score {score!r}": condition == "alpha" and score not in ("cobb_douglas", "ces"),
    f"grpo.advantage={config.grpo.advantage!r}": condition == "alpha"
    and config.grpo.advantage == "gdpo",
  }
  for reader, cannot in unread.items():
    # the prompt would say what its reward does not do
    if condition != "none" and cannot:
      raise BadInput(f"data.condition={condition!r}: {reader} does not read it; change one of them")


def _form(config: Config) -> None:
  """Keys of blocks that the chain has."""
  form, weights = config.chain.form, config.grpo.block_weights
  if not config.has_payoff and config.rewards.mode == "paper":
    raise BadInput(
      f"chain.form={form!r}: rewards.mode='paper' gives nothing to a text without payoffs; use "
      "corrected, or game"
    )
  budgets = config.rollout.constrain
  if budgets and len(budgets) != len(FORMS[form]) > 0:
    raise BadInput(
      f"rollout.constrain={budgets}: must be {len(FORMS[form])} numbers, tokens of "
      f"{', '.join(FORMS[form])} (chain.form={form!r})"
    )
  idle = [b for b, w in zip(BLOCKS, weights) if b not in (*FORMS[form], "response") and w != 1]
  if idle:
    raise BadInput(
      f"grpo.block_weights={weights}: chain.form={form!r} has no {' or '.join(idle)}, whose "
      "weight must stay 1"
    )


def _intervene(config: Config) -> None:
  """Edits of some prompts, with room for their openings."""
  if not (config.intervenes and config.grpo.steps):
    return
  share, prompts = config.rollout.intervene, config.grpo.prompts_per_step
  given = f"rollout.intervene={share}"
  if not 0 < round(share * prompts) < prompts:
    raise BadInput(
      f"{given}: of grpo.prompts_per_step={prompts} that is {round(share * prompts)}; it must be "
      "one at least, and not all: take another share, or more prompts"
    )
  if config.rewards.mode == "paper":
    raise BadInput(
      f"{given}: rewards.mode='paper' does not read what a chain decides by its matrix; use "
      "corrected, or 0"
    )
  longest = config.data.max_prompt_tokens + config.rollout.max_new_tokens
  if config.rollout.prompt_buckets[-1] < longest:
    raise BadInput(
      f"{given}: a prompt and its opening may have data.max_prompt_tokens + "
      f"rollout.max_new_tokens={longest} tokens, more than the largest of "
      f"rollout.prompt_buckets={config.rollout.prompt_buckets}; add a bucket of {longest}"
    )
