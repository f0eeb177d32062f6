"""What options of TRL and verl mean here: the table that translate.py reads.

A name stands for one of our keys only where it means the same. What is counted otherwise (in
completions, in epochs), or does not exist here, is refused with the way to say it. Names and
meanings are those of TRL's GRPOConfig and of verl's ppo_trainer.yaml. Standard library only.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gtalign_jax.sections import AGGREGATIONS, MISMATCH_MODES

# Our keys with their values, or why there are none. A key with a ? yields to whatever else sets it.
Meaning = Mapping[str, Any] | str


class Alias(NamedTuple):
  """One option.

  names: its spellings; brackets hold what may be left out, from the left. keys: of ours, which it
  sets or is nearest to. values: its value in lower case -> what that means. rest: our value for any
  other of its values; None: there are no others. why: it cannot be converted.
  """

  names: tuple[str, ...]
  keys: tuple[str, ...]
  values: Mapping[str, Meaning]
  rest: Callable[[Any], Any] | None = None
  why: str = ""


def _as_it_is(value: Any) -> Any:
  """the same value"""
  return value


def _up_to(value: Any) -> Any:
  """(0, value)"""
  return (0.0, value)


def _before(count: Any) -> Any:
  """the value - 1"""
  # verl counts the first step or round in: the policy learns from step critic_warmup on, and
  # max_num_gen_batches holds the batch that is sampled anyway
  return max(count - 1, 0) if isinstance(count, int) else count


def _same(
  keys: str,
  *names: str,
  but: Mapping[str, Any] = types.MappingProxyType({}),
  rest: Callable[[Any], Any] = _as_it_is,
) -> Alias:
  """The same thing under another name. but: values that are others here (off: -1 there, 0 here)."""
  ours = tuple(keys.split())
  return Alias(names, ours, {name: {ours[0]: value} for name, value in but.items()}, rest)


def _choice(key: str, values: Mapping[str, Any], *names: str) -> Alias:
  """Names for names. A value is ours for `key`, or a table; after a dash, why there is none."""

  def meaning(value: Any) -> Meaning:
    if isinstance(value, str) and value.startswith("- "):
      return value[2:]
    return value if isinstance(value, Mapping) else {key: value}

  return Alias(names, (key,), {name: meaning(value) for name, value in values.items()})


def _only(value: str, why: str, *names: str) -> Alias:
  """An option with the one value under which it does what is done here anyway."""
  return Alias(names, (), {value: {}, value.removesuffix(".0"): {}}, None, why)


def _refused(key: str, why: str, *names: str) -> Alias:
  return Alias(names, (key,), {}, None, why)


_ACTOR, _ROLLOUT = "[actor_rollout_ref.][actor.]", "[actor_rollout_ref.][rollout.]"
_OPTIM = "[actor_rollout_ref.]actor.optim."  # `optim.` alone is ours
_COMPLETIONS = "counts completions, on one device; set "
_UPDATES = "counts optimiser updates or epochs, and not rollouts; set "
_FLAGS = {"true": True, "false": False}

TABLE = (
  # what is trained, on how much
  _same(
    "rollout.group_size", "num_generations", "[actor_rollout_ref.]rollout.n", "grpo.group_size"
  ),
  _same("grpo.prompts_per_step", "[data.]train_batch_size"),
  _same("grpo.steps", "[trainer.]total_training_steps", "steps"),
  _same("grpo.inner_epochs", "num_iterations", "num_ppo_epochs", f"{_ACTOR}ppo_epochs"),
  _same("grpo.minibatch_prompts", f"{_ACTOR}ppo_mini_batch_size"),
  _refused(
    "grpo.minibatch_prompts", "is a number of batches; set grpo.minibatch_prompts, the prompts of "
    "one", "num_mini_batches",
  ),
  _same(
    "rollout.max_new_tokens", "max_completion_length", "[data.]max_response_length",
    f"{_ROLLOUT}response_length",
  ),
  _same("data.max_prompt_tokens", "data.max_prompt_length"),
  _refused(
    "data.max_prompt_tokens", "cuts longer prompts, which are left out here; set "
    "data.max_prompt_tokens", "max_prompt_length",
  ),
  _refused(
    "grpo.prompts_per_step", f"{_COMPLETIONS}grpo.prompts_per_step, prompts over all devices",
    "per_device_train_batch_size", "generation_batch_size",
  ),
  _refused(
    "grpo.micro_prompts", f"{_COMPLETIONS}grpo.micro_prompts and grpo.micro_samples",
    "gradient_accumulation_steps", f"{_ACTOR}ppo_micro_batch_size_per_gpu",
    f"{_ACTOR}ppo_micro_batch_size",
  ),
  _refused(
    "grpo.steps", f"{_UPDATES}grpo.steps", "max_steps", "num_train_epochs",
    "[trainer.]total_epochs",
  ),
  # advantages
  _choice(
    "grpo.advantage",
    {
      "group": "grpo", "true": "grpo", "none": "dr_grpo", "false": "dr_grpo",
      "batch": "- no advantage here divides by the deviation of all rewards; the nearest is "
      "grpo.advantage=reinforce_baseline (of all R - mean of the group)",
      "mean": "- no advantage here divides by the mean; see grpo.advantage",
    },
    "scale_rewards",
  ),
  _choice(
    "grpo.advantage",
    {
      "grpo": "grpo", "rloo": "rloo", "reinforce_plus_plus_baseline": "reinforce_baseline",
      "gae": "gae",
      **dict.fromkeys(
        ("reinforce_plus_plus", "remax", "opo", "gpg", "grpo_passk"),
        "- there is no such estimator; use one of grpo.advantage",
      ),
    },
    "[algorithm.]adv_estimator",
  ),
  _choice(
    "grpo.advantage", {"true": "grpo", "false": "dr_grpo"}, "[algorithm.]norm_adv_by_std_in_grpo"
  ),
  _choice(
    "grpo.advantage",
    {"sum_then_normalize": {"?grpo.advantage": "grpo"}, "normalize_then_sum": "gdpo"},
    "multi_objective_aggregation",
  ),
  _refused(
    "grpo.gdpo_weights", "weighs reward functions; the rewards here are U and L: set "
    "grpo.gdpo_weights, or rewards.alpha", "reward_weights",
  ),
  _same(
    "grpo.overlong_buffer", "[reward_model.]overlong_buffer.len",
    "[reward_model.]reward_kwargs.overlong_buffer_cfg.len",
  ),
  _choice(
    "grpo.overlong_buffer", {"true": {}, "false": 0}, "[reward_model.]overlong_buffer.enable",
    "[reward_model.]reward_kwargs.overlong_buffer_cfg.enable",
  ),
  _only(
    "1.0", "the whole buffer costs 1 here", "[reward_model.]overlong_buffer.penalty_factor",
    "[reward_model.]reward_kwargs.overlong_buffer_cfg.penalty_factor",
  ),
  Alias(
    ("[algorithm.]filter_groups.max_num_gen_batches",), ("grpo.resample_rounds",),
    {"0": "goes on without end; set grpo.resample_rounds, the rounds after the first"}, _before,
  ),
  _choice(
    "grpo.resample_rounds",
    {"true": "- goes on without end; set grpo.resample_rounds, the rounds after the first",
     "false": 0},
    "[algorithm.]filter_groups.enable",
  ),
  _choice(
    "grpo.resample_rounds",
    {
      "seq_final_reward": {}, "seq_reward": {}, "score": {},
      "acc": "- groups are told apart by their rewards here; say seq_final_reward",
    },
    "[algorithm.]filter_groups.metric",
  ),
  _choice("grpo.mask_truncated", _FLAGS, "mask_truncated_completions"),
  # the loss
  _choice("grpo.kind", {"token": "grpo", "sequence": "gspo"}, "importance_sampling_level"),
  _choice(
    "grpo.kind",
    {
      "vanilla": "grpo", "cispo": "cispo",
      # verl takes the mean of each row there, whatever loss_agg_mode says
      "gspo": {"grpo.kind": "gspo", "?grpo.aggregation": "seq-mean-token-mean"},
    },
    f"{_ACTOR}policy_loss.loss_mode", "loss_mode",
  ),
  _choice(
    "grpo.aggregation",
    {
      "dapo": "token-mean", "grpo": "seq-mean-token-mean", "dr_grpo": "seq-mean-token-sum-norm",
      # TRL bounds the weight from above only
      "cispo": {"grpo.kind": "cispo", "grpo.aggregation": "token-mean", "grpo.clip_low": 1.0},
      "bnpo": "- a mean over one device's rows; say dapo, the mean over the whole batch",
      **dict.fromkeys(("sapo", "luspo", "vespo"), "- there is no such loss; see grpo.kind"),
    },
    "loss_type",
  ),
  _choice(
    "grpo.aggregation",
    {each: each for each in AGGREGATIONS}, f"{_ACTOR}loss_agg_mode",
  ),
  _same("grpo.clip_low ?grpo.clip_high", "epsilon", "cliprange"),
  _same("?grpo.clip_low ?grpo.clip_high", f"{_ACTOR}clip_ratio"),
  _same("grpo.clip_low", f"{_ACTOR}clip_ratio_low"),
  _same("grpo.clip_high", "epsilon_high", f"{_ACTOR}clip_ratio_high"),
  _same("grpo.dual_clip", "delta", f"{_ACTOR}clip_ratio_c"),
  _same("grpo.kl_coef", "beta", f"{_ACTOR}kl_loss_coef"),
  _choice(
    "grpo.kl_coef", {"true": {"?grpo.kl_coef": 0.001}, "false": 0.0}, f"{_ACTOR}use_kl_loss"
  ),
  _choice(
    "grpo.kl_estimator",
    {
      name + plus: ours + plus
      for ours, names in (("k1", ("kl", "k1")), ("k2", ("mse", "k2")), ("k3", ("low_var_kl", "k3")))
      for name in names for plus in ("", "+")
    } | dict.fromkeys(("abs", "full"), "- there is no such estimator; see grpo.kl_estimator"),
    f"{_ACTOR}kl_loss_type",
  ),
  _only("0.0", "there is no entropy bonus", f"{_ACTOR}entropy_coeff"),
  _choice(
    "grpo.mismatch",
    {
      f"{level}_{mode}": {"grpo.mismatch": level, "grpo.mismatch_mode": mode}
      for level in ("token", "sequence") for mode in MISMATCH_MODES
    },
    "vllm_importance_sampling_mode",
  ),
  _choice(
    "grpo.mismatch",
    {
      "true": {
        "?grpo.mismatch": "sequence", "?grpo.mismatch_mode": "mask",
        "?grpo.mismatch_bounds": (0.0, 3.0),
      },
      "false": "off",
    },
    "vllm_importance_sampling_correction",
  ),
  _choice(
    "grpo.mismatch",
    {
      "none": "off", "token": {"grpo.mismatch": "token", "grpo.mismatch_mode": "truncate"},
      "sequence": {"grpo.mismatch": "sequence", "grpo.mismatch_mode": "truncate"},
    },
    "[algorithm.][rollout_correction.]rollout_is",
  ),
  _same(
    "grpo.mismatch_bounds", "vllm_importance_sampling_cap",
    "[algorithm.][rollout_correction.]rollout_is_threshold", rest=_up_to,
  ),
  # the critic of PPO (critic.optim.lr and critic.optim.weight_decay are called so in verl, too)
  _same("critic.gamma", "gamma", "algorithm.gamma"),
  _same("critic.lam", "lam", "algorithm.lam"),
  _same("critic.value_clip", "[critic.]cliprange_value"),
  _same("critic.warmup_steps", "[trainer.]critic_warmup", rest=_before),
  _same("critic.optim.warmup", "critic.optim.lr_warmup_steps", but={"-1": 0}),
  _same("critic.optim.max_grad_norm", "critic.grad_clip"),
  _same("critic.kl_coef", "[algorithm.]kl_ctrl.kl_coef", "kl_coef"),
  _choice(
    "critic.kl_coef", {"true": {"?critic.kl_coef": 0.001}, "false": 0.0},
    "[algorithm.]use_kl_in_reward",
  ),
  _only("kl", "in the reward it is k1, verl's `kl`", "[algorithm.]kl_penalty"),
  _refused(
    "grpo.inner_epochs", "is of both here; set grpo.inner_epochs, grpo.minibatch_prompts and "
    "grpo.micro_prompts", "critic.ppo_epochs", "critic.ppo_mini_batch_size",
    "critic.ppo_micro_batch_size_per_gpu", "critic.ppo_micro_batch_size",
  ),
  _refused(
    "critic.trunk", "is the policy's here, at the start; see critic.trunk", "critic.model.path"
  ),
  _refused(
    "critic.optim.lr", "weighs a common loss; the critic has a rate of its own: set "
    "critic.optim.lr", "vf_coef",
  ),
  # sampling
  _same("rollout.temperature", "temperature", "actor_rollout_ref.rollout.temperature"),
  _same("rollout.top_k", "top_k", "actor_rollout_ref.rollout.top_k", but={"-1": 0, "none": 0}),
  _same("rollout.top_p", "top_p", "actor_rollout_ref.rollout.top_p"),
  _same("rollout.min_p", "min_p", but={"none": 0.0}),
  # the optimiser
  _same("optim.lr", "learning_rate", f"{_OPTIM}lr"),
  _same("optim.warmup", "warmup_steps", f"{_OPTIM}lr_warmup_steps", but={"-1": 0}),
  _refused(
    "optim.warmup", "is a share of all updates; set optim.warmup, a number of them",
    "warmup_ratio", f"{_OPTIM}lr_warmup_steps_ratio",
  ),
  _choice(
    "optim.decay",
    {
      "constant": "constant", "constant_with_warmup": "constant",
      "linear": {"optim.decay": "linear", "?optim.final_lr_frac": 0.0},
      "cosine": {"optim.decay": "cosine", "?optim.final_lr_frac": 0.0},
    },
    "lr_scheduler_type", f"{_OPTIM}lr_scheduler_type", f"{_OPTIM}warmup_style",
  ),
  _same("optim.final_lr_frac", f"{_OPTIM}min_lr_ratio"),
  _same("optim.b1", "adam_beta1"),
  _same("optim.b2", "adam_beta2"),
  _same("optim.eps", "adam_epsilon"),
  _same("optim.weight_decay", "weight_decay", f"{_OPTIM}weight_decay"),
  _same("optim.max_grad_norm", "max_grad_norm", f"{_ACTOR}grad_clip"),
  # the model and the run
  _same("model", "model_name_or_path", "[actor_rollout_ref.]model.path"),
  _choice("policy.dtype", {"true": "bfloat16", "false": "float32"}, "bf16"),
  _refused(
    "policy.param_dtype", "is of the weights; set policy.dtype, what is computed in, or "
    "policy.param_dtype", "torch_dtype",
  ),
  _choice(
    "policy.remat", {"true": "full", "false": "none"}, "gradient_checkpointing",
    "[actor_rollout_ref.][model.]enable_gradient_checkpointing",
  ),
  _same("policy.lora_rank", "lora_r", "actor_rollout_ref.model.lora_rank"),
  _same("policy.lora_alpha", "lora_alpha", "actor_rollout_ref.model.lora_alpha"),
  _choice("policy.lora_rank_stabilised", _FLAGS, "use_rslora"),
  _refused(
    "policy.lora_targets", "names modules; set policy.lora_targets, e.g. ('q','k','v','o')",
    "lora_target_modules", "actor_rollout_ref.model.target_modules",
  ),
  _same("data.template_arguments", "chat_template_kwargs", "[data.]apply_chat_template_kwargs"),
  _refused(
    "data.root", "names files or a data set with splits; set data.root, data.train_split and "
    "data.eval_split", "dataset_name", "[data.]train_files", "[data.]val_files",
  ),
  _same("workdir", "output_dir", "[trainer.]default_local_dir"),
  _same("checkpoint.every", "[trainer.]save_freq"),
  _same("eval.every", "[trainer.]test_freq", but={"-1": 0}),
  _refused("checkpoint.every", f"{_UPDATES}checkpoint.every", "save_steps"),
  _refused("eval.every", f"{_UPDATES}eval.every", "eval_steps"),
  _same("checkpoint.keep", "save_total_limit", "[trainer.]max_actor_ckpt_to_keep"),
  _refused(
    "log.wandb", "names programs; set log.wandb, the name of a project, or log.tensorboard=true",
    "report_to", "[trainer.]logger",
  ),
  _same("log.wandb", "[trainer.]project_name"),
  _refused(
    "mesh.tensor", "is of the sampler alone; set mesh.tensor, which holds for all programs",
    f"{_ROLLOUT}tensor_model_parallel_size", "vllm_tensor_parallel_size",
  ),
)  # fmt: skip

# switch -> options that do nothing where it is false
SWITCHES = {
  "use_kl_loss": ("beta", "kl_loss_type"),
  "use_kl_in_reward": ("kl_ctrl.kl_coef", "kl_penalty"),
  "vllm_importance_sampling_correction": (
    "vllm_importance_sampling_mode", "vllm_importance_sampling_cap",
  ),
  "filter_groups.enable": ("filter_groups.max_num_gen_batches", "filter_groups.metric"),
  "overlong_buffer.enable": ("overlong_buffer.len", "overlong_buffer.penalty_factor"),
}  # fmt: skip
