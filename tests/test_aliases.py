"""Options of TRL and verl: each value in, our value out; docs/algorithms.md has the same table.

`python tests/test_aliases.py` prints that table.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from gtalign_jax import aliases, translate
from gtalign_jax import config as configs
from gtalign_jax.cli.main import main
from gtalign_jax.config import Config, load, override, vary
from gtalign_jax.errors import BadInput

DOCS = Path(__file__).parent.parent / "docs/algorithms.md"
KNOWN = configs.keys(Config())
# as a command line would have them, and what is told
CASES = """
num_generations=4 -> rollout.group_size=4
actor_rollout_ref.rollout.n=5 -> rollout.group_size=5
rollout.n=5 -> rollout.group_size=5
grpo.group_size=4 -> rollout.group_size=4
data.train_batch_size=16 -> grpo.prompts_per_step=16
train_batch_size=16 -> grpo.prompts_per_step=16
trainer.total_training_steps=7 -> grpo.steps=7
steps=7 -> grpo.steps=7
num_iterations=2 -> grpo.inner_epochs=2
actor_rollout_ref.actor.ppo_epochs=2 -> grpo.inner_epochs=2
actor.ppo_epochs=2 -> grpo.inner_epochs=2
ppo_epochs=2 -> grpo.inner_epochs=2
num_ppo_epochs=2 -> grpo.inner_epochs=2
actor_rollout_ref.actor.ppo_mini_batch_size=4 -> grpo.minibatch_prompts=4
ppo_mini_batch_size=4 -> grpo.minibatch_prompts=4
max_completion_length=64 -> rollout.max_new_tokens=64
data.max_response_length=64 -> rollout.max_new_tokens=64
actor_rollout_ref.rollout.response_length=64 -> rollout.max_new_tokens=64
data.max_prompt_length=64 -> data.max_prompt_tokens=64
scale_rewards=group -> grpo.advantage=grpo
scale_rewards=true -> grpo.advantage=grpo
scale_rewards=none -> grpo.advantage=dr_grpo
scale_rewards=False -> grpo.advantage=dr_grpo
algorithm.adv_estimator=grpo -> grpo.advantage=grpo
algorithm.adv_estimator=rloo -> grpo.advantage=rloo
algorithm.adv_estimator=gae -> grpo.advantage=gae
adv_estimator=reinforce_plus_plus_baseline -> grpo.advantage=reinforce_baseline
algorithm.norm_adv_by_std_in_grpo=True -> grpo.advantage=grpo
algorithm.norm_adv_by_std_in_grpo=False -> grpo.advantage=dr_grpo
multi_objective_aggregation=normalize_then_sum -> grpo.advantage=gdpo
multi_objective_aggregation=sum_then_normalize -> grpo.advantage=grpo
reward_model.overlong_buffer.len=32 -> grpo.overlong_buffer=32
reward_model.reward_kwargs.overlong_buffer_cfg.len=32 -> grpo.overlong_buffer=32
reward_model.overlong_buffer.enable=False -> grpo.overlong_buffer=0
reward_model.overlong_buffer.enable=True -> nothing
reward_model.reward_kwargs.overlong_buffer_cfg.enable=false -> grpo.overlong_buffer=0
reward_model.overlong_buffer.penalty_factor=1.0 -> nothing
reward_model.reward_kwargs.overlong_buffer_cfg.penalty_factor=1 -> nothing
algorithm.filter_groups.max_num_gen_batches=10 -> grpo.resample_rounds=9
algorithm.filter_groups.enable=False -> grpo.resample_rounds=0
algorithm.filter_groups.metric=seq_final_reward -> nothing
filter_groups.metric=seq_reward -> nothing
filter_groups.metric=score -> nothing
mask_truncated_completions=True -> grpo.mask_truncated=True
mask_truncated_completions=False -> grpo.mask_truncated=False
importance_sampling_level=token -> grpo.kind=grpo
importance_sampling_level=sequence -> grpo.kind=gspo
actor_rollout_ref.actor.policy_loss.loss_mode=vanilla -> grpo.kind=grpo
actor_rollout_ref.actor.policy_loss.loss_mode=gspo -> grpo.kind=gspo grpo.aggregation=seq-mean-token-mean
loss_mode=cispo -> grpo.kind=cispo
loss_type=dapo -> grpo.aggregation=token-mean
loss_type=grpo -> grpo.aggregation=seq-mean-token-mean
loss_type=dr_grpo -> grpo.aggregation=seq-mean-token-sum-norm
loss_type=cispo -> grpo.kind=cispo grpo.aggregation=token-mean grpo.clip_low=1.0
actor_rollout_ref.actor.loss_agg_mode=token-mean -> grpo.aggregation=token-mean
loss_agg_mode=seq-mean-token-mean -> grpo.aggregation=seq-mean-token-mean
loss_agg_mode=seq-mean-token-sum -> grpo.aggregation=seq-mean-token-sum
loss_agg_mode=seq-mean-token-sum-norm -> grpo.aggregation=seq-mean-token-sum-norm
epsilon=0.1 -> grpo.clip_low=0.1 grpo.clip_high=0.1
cliprange=0.1 -> grpo.clip_low=0.1 grpo.clip_high=0.1
actor_rollout_ref.actor.clip_ratio=0.1 -> grpo.clip_low=0.1 grpo.clip_high=0.1
actor_rollout_ref.actor.clip_ratio_low=0.1 -> grpo.clip_low=0.1
clip_ratio_low=0.1 -> grpo.clip_low=0.1
epsilon_high=0.28 -> grpo.clip_high=0.28
actor_rollout_ref.actor.clip_ratio_high=0.28 -> grpo.clip_high=0.28
delta=4.0 -> grpo.dual_clip=4.0
actor_rollout_ref.actor.clip_ratio_c=3.0 -> grpo.dual_clip=3.0
beta=0.04 -> grpo.kl_coef=0.04
actor_rollout_ref.actor.kl_loss_coef=0.001 -> grpo.kl_coef=0.001
actor_rollout_ref.actor.use_kl_loss=True -> grpo.kl_coef=0.001
actor_rollout_ref.actor.use_kl_loss=False -> grpo.kl_coef=0.0
actor_rollout_ref.actor.kl_loss_type=low_var_kl -> grpo.kl_estimator=k3
kl_loss_type=low_var_kl+ -> grpo.kl_estimator=k3+
kl_loss_type=k3 -> grpo.kl_estimator=k3
kl_loss_type=k3+ -> grpo.kl_estimator=k3+
kl_loss_type=mse -> grpo.kl_estimator=k2
kl_loss_type=mse+ -> grpo.kl_estimator=k2+
kl_loss_type=k2 -> grpo.kl_estimator=k2
kl_loss_type=k2+ -> grpo.kl_estimator=k2+
kl_loss_type=kl -> grpo.kl_estimator=k1
kl_loss_type=kl+ -> grpo.kl_estimator=k1+
kl_loss_type=k1 -> grpo.kl_estimator=k1
kl_loss_type=k1+ -> grpo.kl_estimator=k1+
algorithm.gamma=0.99 -> critic.gamma=0.99
gamma=0.99 -> critic.gamma=0.99
algorithm.lam=0.95 -> critic.lam=0.95
lam=0.95 -> critic.lam=0.95
critic.cliprange_value=0.2 -> critic.value_clip=0.2
cliprange_value=0.2 -> critic.value_clip=0.2
trainer.critic_warmup=0 -> critic.warmup_steps=0
trainer.critic_warmup=10 -> critic.warmup_steps=9
critic.optim.lr_warmup_steps=3 -> critic.optim.warmup=3
critic.optim.lr_warmup_steps=-1 -> critic.optim.warmup=0
critic.grad_clip=0.5 -> critic.optim.max_grad_norm=0.5
algorithm.kl_ctrl.kl_coef=0.1 -> critic.kl_coef=0.1
kl_coef=0.1 -> critic.kl_coef=0.1
algorithm.use_kl_in_reward=False -> critic.kl_coef=0.0
algorithm.use_kl_in_reward=True -> critic.kl_coef=0.001
algorithm.kl_penalty=kl -> nothing
actor_rollout_ref.actor.entropy_coeff=0 -> nothing
entropy_coeff=0.0 -> nothing
vllm_importance_sampling_mode=token_truncate -> grpo.mismatch=token grpo.mismatch_mode=truncate
vllm_importance_sampling_mode=token_mask -> grpo.mismatch=token grpo.mismatch_mode=mask
vllm_importance_sampling_mode=sequence_truncate -> grpo.mismatch=sequence grpo.mismatch_mode=truncate
vllm_importance_sampling_mode=sequence_mask -> grpo.mismatch=sequence grpo.mismatch_mode=mask
vllm_importance_sampling_correction=True -> grpo.mismatch=sequence grpo.mismatch_mode=mask grpo.mismatch_bounds=(0.0, 3.0)
vllm_importance_sampling_correction=False -> grpo.mismatch=off
vllm_importance_sampling_cap=3.0 -> grpo.mismatch_bounds=(0.0, 3.0)
algorithm.rollout_correction.rollout_is=token -> grpo.mismatch=token grpo.mismatch_mode=truncate
algorithm.rollout_correction.rollout_is=sequence -> grpo.mismatch=sequence grpo.mismatch_mode=truncate
rollout_is=null -> grpo.mismatch=off
algorithm.rollout_correction.rollout_is_threshold=2.0 -> grpo.mismatch_bounds=(0.0, 2.0)
temperature=0.7 -> rollout.temperature=0.7
actor_rollout_ref.rollout.temperature=0.7 -> rollout.temperature=0.7
top_k=20 -> rollout.top_k=20
top_k=None -> rollout.top_k=0
actor_rollout_ref.rollout.top_k=-1 -> rollout.top_k=0
top_p=0.9 -> rollout.top_p=0.9
actor_rollout_ref.rollout.top_p=0.9 -> rollout.top_p=0.9
min_p=0.1 -> rollout.min_p=0.1
min_p=None -> rollout.min_p=0.0
learning_rate=1e-06 -> optim.lr=1e-06
actor_rollout_ref.actor.optim.lr=1e-06 -> optim.lr=1e-06
actor.optim.lr=1e-06 -> optim.lr=1e-06
warmup_steps=3 -> optim.warmup=3
actor_rollout_ref.actor.optim.lr_warmup_steps=3 -> optim.warmup=3
actor_rollout_ref.actor.optim.lr_warmup_steps=-1 -> optim.warmup=0
lr_scheduler_type=constant -> optim.decay=constant
lr_scheduler_type=constant_with_warmup -> optim.decay=constant
lr_scheduler_type=linear -> optim.decay=linear optim.final_lr_frac=0.0
lr_scheduler_type=cosine -> optim.decay=cosine optim.final_lr_frac=0.0
actor_rollout_ref.actor.optim.lr_scheduler_type=cosine -> optim.decay=cosine optim.final_lr_frac=0.0
actor_rollout_ref.actor.optim.warmup_style=constant -> optim.decay=constant
actor_rollout_ref.actor.optim.min_lr_ratio=0.2 -> optim.final_lr_frac=0.2
adam_beta1=0.8 -> optim.b1=0.8
adam_beta2=0.99 -> optim.b2=0.99
adam_epsilon=1e-05 -> optim.eps=1e-05
weight_decay=0.01 -> optim.weight_decay=0.01
actor_rollout_ref.actor.optim.weight_decay=0.01 -> optim.weight_decay=0.01
max_grad_norm=0.5 -> optim.max_grad_norm=0.5
actor_rollout_ref.actor.grad_clip=0.5 -> optim.max_grad_norm=0.5
model_name_or_path=a/b -> model=a/b
actor_rollout_ref.model.path=a/b -> model=a/b
bf16=True -> policy.dtype=bfloat16
bf16=False -> policy.dtype=float32
gradient_checkpointing=True -> policy.remat=full
gradient_checkpointing=False -> policy.remat=none
actor_rollout_ref.model.enable_gradient_checkpointing=True -> policy.remat=full
lora_r=8 -> policy.lora_rank=8
actor_rollout_ref.model.lora_rank=8 -> policy.lora_rank=8
lora_alpha=32 -> policy.lora_alpha=32
actor_rollout_ref.model.lora_alpha=32 -> policy.lora_alpha=32
use_rslora=True -> policy.lora_rank_stabilised=True
use_rslora=False -> policy.lora_rank_stabilised=False
chat_template_kwargs={'enable_thinking': False} -> data.template_arguments={'enable_thinking': False}
data.apply_chat_template_kwargs={'a': 1} -> data.template_arguments={'a': 1}
output_dir=runs/x -> workdir=runs/x
trainer.default_local_dir=runs/x -> workdir=runs/x
trainer.save_freq=5 -> checkpoint.every=5
trainer.test_freq=5 -> eval.every=5
trainer.test_freq=-1 -> eval.every=0
save_total_limit=3 -> checkpoint.keep=3
trainer.max_actor_ckpt_to_keep=3 -> checkpoint.keep=3
trainer.project_name=mine -> log.wandb=mine
"""
REFUSED = """
max_prompt_length=64 -> set data.max_prompt_tokens
per_device_train_batch_size=8 -> set grpo.prompts_per_step
generation_batch_size=8 -> set grpo.prompts_per_step
gradient_accumulation_steps=8 -> set grpo.micro_prompts
actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8 -> set grpo.micro_prompts
ppo_micro_batch_size=8 -> set grpo.micro_prompts
max_steps=100 -> set grpo.steps
num_train_epochs=3 -> set grpo.steps
trainer.total_epochs=3 -> set grpo.steps
scale_rewards=batch -> grpo.advantage=reinforce_baseline
scale_rewards=mean -> see grpo.advantage
adv_estimator=reinforce_plus_plus -> grpo.advantage
adv_estimator=remax -> grpo.advantage
adv_estimator=opo -> grpo.advantage
adv_estimator=gpg -> grpo.advantage
adv_estimator=grpo_passk -> grpo.advantage
reward_weights=[1, 1] -> set grpo.gdpo_weights
algorithm.filter_groups.max_num_gen_batches=0 -> set grpo.resample_rounds
algorithm.filter_groups.enable=True -> set grpo.resample_rounds
filter_groups.metric=acc -> say seq_final_reward
overlong_buffer.penalty_factor=0.5 -> the whole buffer costs 1
loss_type=bnpo -> say dapo
loss_type=sapo -> see grpo.kind
loss_type=luspo -> see grpo.kind
loss_type=vespo -> see grpo.kind
kl_loss_type=abs -> see grpo.kl_estimator
kl_loss_type=full -> see grpo.kl_estimator
num_mini_batches=4 -> set grpo.minibatch_prompts
algorithm.kl_penalty=low_var_kl -> in the reward it is k1
critic.ppo_epochs=2 -> set grpo.inner_epochs
critic.ppo_mini_batch_size=4 -> grpo.minibatch_prompts
critic.ppo_micro_batch_size_per_gpu=4 -> grpo.micro_prompts
critic.ppo_micro_batch_size=4 -> grpo.micro_prompts
critic.model.path=a/b -> see critic.trunk
vf_coef=0.1 -> set critic.optim.lr
entropy_coeff=0.01 -> no entropy bonus
warmup_ratio=0.1 -> set optim.warmup
actor.optim.lr_warmup_steps_ratio=0.1 -> set optim.warmup
torch_dtype=bfloat16 -> policy.dtype
lora_target_modules=all-linear -> set policy.lora_targets
actor_rollout_ref.model.target_modules=all-linear -> set policy.lora_targets
dataset_name=a/b -> set data.root
train_files=x.parquet -> set data.root
data.val_files=x.parquet -> set data.root
save_steps=5 -> set checkpoint.every
eval_steps=5 -> set eval.every
report_to=wandb -> set log.wandb
trainer.logger=wandb -> set log.wandb
actor_rollout_ref.rollout.tensor_model_parallel_size=2 -> set mesh.tensor
vllm_tensor_parallel_size=2 -> set mesh.tensor
"""


def cases(text):
  return [line.partition(" -> ")[::2] for line in text.strip().splitlines()]


def parsed(option):
  """(key, value) as a command line reads them."""
  key, _, text = option.partition("=")
  return key, configs._literal(text)


@pytest.mark.parametrize(("option", "expected"), cases(CASES))
def test_what_an_option_means(option, expected):
  key, value = parsed(option)
  ours, told = translate.translate({key: value})
  assert told[0].partition(" -> ")[2] == expected
  assert " ".join(f"{key}={value}" for key, value in ours.items()) == expected or not ours
  assert set(ours) <= set(translate.sets(key)) <= {*KNOWN}
  for change in (lambda: override(Config(), [option]), lambda: vary(Config(), {key: value})):
    try:
      values = configs.values(change())
    except BadInput as error:  # another key is missing, but the value is of the right kind
      assert "has no effect with" in str(error)
    else:
      assert all(values[each] == wanted for each, wanted in ours.items())


@pytest.mark.parametrize(("option", "expected"), cases(REFUSED))
def test_what_cannot_be_said(option, expected, capsys):
  for form in (option, f"--{option}"):
    assert main(["config", form]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and option.partition("=")[0] in error and expected in error


def test_the_cases_are_all_of_the_table():
  """Every name, every value of those that have a list, and another value of the rest."""
  named, seen = set(), set()
  for option, _ in cases(CASES) + cases(REFUSED):
    key, value = parsed(option)
    alias = translate._BY_NAME[key]
    text = translate._text(value)
    named.add(next(each for each in alias.names if key in translate.spellings(each)))
    seen.add((alias.names, text if text in alias.values else "another"))
  assert named == {name for alias in aliases.TABLE for name in alias.names}
  wanted = {
    (alias.names, value)
    for alias in aliases.TABLE
    for value in [*alias.values, *(["another"] if alias.rest or alias.why else [])]
  }
  # the floats and the whole numbers of `_only` are one value
  missing = {
    (names, value) for names, value in wanted - seen if value not in ("0", "1", "0.0", "1.0")
  }
  assert not missing


def test_names_are_told_apart():
  found = [
    each for alias in aliases.TABLE for name in alias.names for each in translate.spellings(name)
  ]
  assert len(found) == len(set(found)) and not set(found) & set(KNOWN)
  assert set(translate.NEAREST.values()) <= set(KNOWN)
  first = [translate.spellings(alias.names[0])[-1] for alias in aliases.TABLE]
  switched = {*aliases.SWITCHES, *(each for names in aliases.SWITCHES.values() for each in names)}
  assert switched <= set(first)


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    # an option that another one only fills in for
    ("epsilon=0.1 epsilon_high=0.3", "grpo.clip_low=0.1 grpo.clip_high=0.3"),
    ("epsilon=0.1 grpo.clip_high=0.3", "grpo.clip_high=0.3 grpo.clip_low=0.1"),
    ("clip_ratio=0.1 clip_ratio_low=0.3", "grpo.clip_low=0.3 grpo.clip_high=0.1"),
    (
      "lr_scheduler_type=cosine actor.optim.min_lr_ratio=0.2",
      "optim.decay=cosine optim.final_lr_frac=0.2",
    ),
    ("use_kl_loss=True kl_loss_coef=0.01", "grpo.kl_coef=0.01"),
    ("loss_mode=gspo loss_agg_mode=token-mean", "grpo.kind=gspo grpo.aggregation=token-mean"),
    # a switch that is off
    ("use_kl_loss=False kl_loss_coef=0.01 kl_loss_type=kl", "grpo.kl_coef=0.0"),
    ("use_kl_in_reward=False kl_ctrl.kl_coef=0.01 kl_penalty=abs", "critic.kl_coef=0.0"),
    ("overlong_buffer.enable=false overlong_buffer.len=64", "grpo.overlong_buffer=0"),
    (
      "vllm_importance_sampling_correction=false vllm_importance_sampling_cap=2.0",
      "grpo.mismatch=off",
    ),
    # two that mean something together
    (
      "filter_groups.enable=True filter_groups.max_num_gen_batches=3 filter_groups.metric=score",
      "grpo.resample_rounds=2",
    ),
    ("filter_groups.enable=False filter_groups.metric=acc", "grpo.resample_rounds=0"),
    ("adv_estimator=grpo norm_adv_by_std_in_grpo=False", "grpo.advantage=dr_grpo"),
    ("adv_estimator=rloo norm_adv_by_std_in_grpo=False", "grpo.advantage=rloo"),
    (
      "loss_type=cispo importance_sampling_level=token grpo.clip_high=4.0",
      "grpo.clip_high=4.0 grpo.kind=cispo grpo.aggregation=token-mean grpo.clip_low=1.0",
    ),
    (
      "train_batch_size=64 actor.ppo_mini_batch_size=64",
      "grpo.prompts_per_step=64 grpo.minibatch_prompts=0",
    ),
    (
      "train_batch_size=64 ppo_mini_batch_size=16",
      "grpo.prompts_per_step=64 grpo.minibatch_prompts=16",
    ),
    # the same thing twice
    ("beta=0.1 grpo.kl_coef=0.1", "grpo.kl_coef=0.1"),
    ("loss_type=dapo importance_sampling_level=sequence", "grpo.aggregation=token-mean grpo.kind=gspo"),
  ],
)  # fmt: skip
def test_options_together(given, expected):
  for options in (given.split(), given.split()[::-1]):
    ours, _ = translate.translate(dict(map(parsed, options)))
    assert {f"{key}={value}" for key, value in ours.items()} == set(expected.split())


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ("beta=0.1 grpo.kl_coef=0.2", "beta=0.1 means grpo.kl_coef=0.1, and grpo.kl_coef=0.2 is given"),
    ("beta=0.1 kl_loss_coef=0.2", "and beta=0.1, which means grpo.kl_coef=0.1, is given too"),
    ("steps=3 grpo.steps=4", "steps=3 means grpo.steps=3, and grpo.steps=4"),
    ("scale_rewards=none adv_estimator=rloo", "means grpo.advantage=rloo"),
    ("loss_type=cispo importance_sampling_level=sequence", "means grpo.kind=gspo"),
    ("loss_type=cispo epsilon_high=5.0", "set grpo.clip_high=4, which is counted from 1"),
    ("loss_type=dappo", "loss_type='dappo' is not one of dapo, grpo, dr_grpo, cispo; did you mean"),
    ("mask_truncated_completions=3", "mask_truncated_completions=3 is not one of true, false"),
    ("num_generation=4", "did you mean 'rollout.group_size'"),
    ("actor_rollout_ref.actor.nonsense=4", "unknown key 'actor_rollout_ref.actor.nonsense'"),
    ("beta=-1", "grpo.kl_coef=-1.0: must be at least 0"),
    ("epsilon=0.3", "grpo.clip_low=0.3 has no effect with grpo.inner_epochs=1"),
  ],
)
def test_options_that_contradict(given, expected, capsys):
  assert main(["config", *given.split()]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and expected in error


def test_it_is_told_in_one_line_and_stored_in_our_keys(tmp_path, caplog):
  file = tmp_path / "c.py"
  file.write_text(
    "from gtalign_jax.config import *\n"
    "def config(): return vary(Config(), {'beta': 0.1, 'loss_type': 'dr_grpo'})\n"
  )
  with caplog.at_level(logging.INFO, "gtalign_jax"):
    config = load(file, ["num_generations=4", "seed=3"])
  assert [each.getMessage() for each in caplog.records] == [
    "translated: beta=0.1 -> grpo.kl_coef=0.1; loss_type=dr_grpo -> "
    "grpo.aggregation=seq-mean-token-sum-norm",
    "translated: num_generations=4 -> rollout.group_size=4",
  ]
  assert configs.from_dict(configs.as_dict(config), "x") == config
  assert config.grpo.kl_coef == 0.1 and config.rollout.group_size == 4 and config.seed == 3


def named(alias):
  return ", ".join(f"`{translate.spellings(name)[0]}`" for name in alias.names)


def meaning(alias):
  """The right column of the documented table."""
  if alias.rest:
    keys = ", ".join(f"`{key.lstrip('?')}`" for key in alias.keys)
    shape = "" if alias.rest is aliases._as_it_is else f" = {alias.rest.__doc__}"
    return keys + shape + "".join(f"; {name}: {value}" for name, value in shown(alias))
  parts = [f"{name}: {value}" for name, value in shown(alias)]
  refusal = f"**refused**: it {alias.why}" if alias.keys else f"else **refused**: {alias.why}"
  return "; ".join([*parts, refusal] if alias.why else parts)


def shown(alias):
  found = {}
  for name, value in alias.values.items():
    if isinstance(value, Mapping):
      text = " ".join(f"`{key.lstrip('?')}={each}`" for key, each in value.items()) or "as here"
    else:
      text = f"**refused**: {value}"
    found.setdefault(text, []).append(f"`{name}`")
  return [(" ".join(names), text) for text, names in found.items()]


def table():
  rows = [f"| {named(alias)} | {meaning(alias)} |" for alias in aliases.TABLE]
  return "\n".join(["| option | here |", "|---|---|", *rows])


def test_the_document_has_this_table():
  assert table() in DOCS.read_text(encoding="utf-8"), "paste `python tests/test_aliases.py`"


if __name__ == "__main__":
  print(table())
