"""Which key of a config a user meant who typed one that is not there. Standard library only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

# What other frameworks call our keys (whole, or their last part): TRL and transformers, then verl.
# Errors name ours; these are not taken as keys, for some count otherwise (completions, epochs).
FOREIGN = {
  "beta": "grpo.kl_coef",
  "learning_rate": "optim.lr",
  "num_generations": "rollout.group_size",
  "max_completion_length": "rollout.max_new_tokens",
  "max_prompt_length": "data.max_prompt_tokens",
  "per_device_train_batch_size": "grpo.prompts_per_step",
  "gradient_accumulation_steps": "grpo.micro_prompts",
  "num_iterations": "grpo.inner_epochs",
  "epsilon": "grpo.clip_low",
  "epsilon_high": "grpo.clip_high",
  "delta": "grpo.dual_clip",
  "loss_type": "grpo.aggregation",
  "scale_rewards": "grpo.advantage",
  "mask_truncated_completions": "grpo.mask_truncated",
  "max_steps": "grpo.steps",
  "num_train_epochs": "grpo.steps",
  "warmup_steps": "optim.warmup",
  "warmup_ratio": "optim.warmup",
  "lr_scheduler_type": "optim.decay",
  "adam_beta1": "optim.b1",
  "adam_beta2": "optim.b2",
  "adam_epsilon": "optim.eps",
  "output_dir": "workdir",
  "model_name_or_path": "model",
  "dataset_name": "data.root",
  "save_steps": "checkpoint.every",
  "save_total_limit": "checkpoint.keep",
  "eval_steps": "eval.every",
  "report_to": "log.wandb",
  "bf16": "policy.dtype",
  "torch_dtype": "policy.param_dtype",
  "gradient_checkpointing": "policy.remat",
  "lora_r": "policy.lora_rank",
  "lora_target_modules": "policy.lora_targets",
  "rollout.n": "rollout.group_size",
  "n": "rollout.group_size",
  "response_length": "rollout.max_new_tokens",
  "max_response_length": "rollout.max_new_tokens",
  "train_batch_size": "grpo.prompts_per_step",
  "ppo_micro_batch_size": "grpo.micro_prompts",
  "ppo_micro_batch_size_per_gpu": "grpo.micro_prompts",
  "ppo_epochs": "grpo.inner_epochs",
  "clip_ratio": "grpo.clip_low",
  "clip_ratio_low": "grpo.clip_low",
  "clip_ratio_high": "grpo.clip_high",
  "clip_ratio_c": "grpo.dual_clip",
  "loss_agg_mode": "grpo.aggregation",
  "adv_estimator": "grpo.advantage",
  "kl_loss_coef": "grpo.kl_coef",
  "kl_loss_type": "grpo.kl_estimator",
  "lr_warmup_steps": "optim.warmup",
  "grad_clip": "optim.max_grad_norm",
  "train_files": "data.root",
  "val_files": "data.root",
  "model.path": "model",
  "total_epochs": "grpo.steps",
  "total_training_steps": "grpo.steps",
  "save_freq": "checkpoint.every",
  "test_freq": "eval.every",
  "default_local_dir": "workdir",
  "project_name": "log.wandb",
  "logger": "log.wandb",
  "tensor_model_parallel_size": "mesh.tensor",
  "enable_gradient_checkpointing": "policy.remat",
}


def near_key(key: str, known: Sequence[str]) -> str:
  """The key of `known` that `key` most likely means; "" where none is near."""
  parts = key.split(".")
  named = FOREIGN.get(".".join(parts[-2:])) or FOREIGN.get(parts[-1])
  if named:  # sft.learning_rate is not optim.lr, but what the warm start calls so
    parts[-1] = named.split(".")[-1]
    section = f"{parts[0]}."
    inside = [each for each in known if each.startswith(section)] if len(parts) > 1 else []
    return _same_leaf(parts, inside) or named
  same = _same_leaf(parts, known)  # the right name in a wrong place: policy.lr for optim.lr
  if same:
    return same
  for each in known:  # data.weights.medium: a table is set whole
    if key.startswith(f"{each}."):
      return each
  # then a slip in the name, of a key of that section before one of another
  leaf = parts[-1]
  section = key.removesuffix(leaf)
  inside_of = {each.removeprefix(section): each for each in known if each.startswith(section)}
  leaves = {each.split(".")[-1]: each for each in reversed(known)}
  for names, cutoff in ((inside_of, 0.7), (leaves, 0.75)):
    for name in difflib.get_close_matches(leaf, names, n=1, cutoff=cutoff):
      return names[name]
  return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.9)), "")


def _same_leaf(parts: Sequence[str], known: Sequence[str]) -> str:
  """The key with the last part of `parts` that shares most with it, the first of equals."""
  same = [each for each in known if each.split(".")[-1] == parts[-1]]
  return max(same, key=lambda each: _likeness(parts, each.split(".")), default="")


def _likeness(a: Sequence[str], b: Sequence[str]) -> tuple[bool, int]:
  """Whether two names begin alike; of how many parts they end alike, less the length of `b`."""
  alike = 0
  for one, other in zip(reversed(a), reversed(b)):
    if one != other:
      break
    alike += 1
  return a[0] == b[0], 2 * alike - len(b)
