"""The sections of a config: one frozen dataclass a room, with every knob, its default and its rule.

Sections are hashable, so they serve as jit static arguments. Standard library only.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gtalign_jax.errors import BadInput


class Table(dict):
  """A dict that is hashable, so that it can sit in a frozen config; treat as read-only."""

  def __hash__(self) -> int:  # type: ignore[override]
    return hash(tuple(sorted(self.items())))


def _one_of(section: str, key: str, value: Any, allowed: Sequence[Any]) -> None:
  if value not in allowed:
    near = difflib.get_close_matches(str(value), [str(a) for a in allowed], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise BadInput(f"{section}.{key}={value!r} is not one of {', '.join(map(str, allowed))}{hint}")


def _at_least(section: str, key: str, value: float, low: float) -> None:
  if not value >= low:
    raise BadInput(f"{section}.{key}={value}: must be at least {low}")


def _ascending(section: str, key: str, lengths: Sequence[int]) -> None:
  if list(lengths) != sorted(set(lengths)) or min(lengths, default=1) < 1:
    raise BadInput(f"{section}.{key}={lengths}: must be ascending lengths of at least 1")


def _fraction(section: str, key: str, value: float) -> None:
  if not 0.0 <= value <= 1.0:
    raise BadInput(f"{section}.{key}={value}: must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
  """How the policy is held and computed."""

  param_dtype: str = "float32"  # master weights
  dtype: str = "float32"  # matmuls and activations; bfloat16 on TPU and GPU
  remat: str = "none"  # what the backward pass recomputes: none | full | dots | names
  lora_rank: int = 0  # 0: train every weight; r > 0: train rank-r adapters only
  lora_alpha: float = 16.0  # adapter scale = alpha / rank (or alpha / sqrt(rank))
  lora_rank_stabilised: bool = False  # rsLoRA (Kalajdzievski 2023): alpha / sqrt(rank)
  lora_targets: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down")

  def __post_init__(self):
    _one_of("policy", "param_dtype", self.param_dtype, ("float32", "bfloat16"))
    _one_of("policy", "dtype", self.dtype, ("float32", "bfloat16"))
    _one_of("policy", "remat", self.remat, ("none", "full", "dots", "names"))
    _at_least("policy", "lora_rank", self.lora_rank, 0)
    for target in self.lora_targets:
      _one_of("policy", "lora_targets", target, ("q", "k", "v", "o", "gate", "up", "down"))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Which prompts a run reads and how they are worded."""

  root: str = (
    ""  # folder of <source>/{train,test}.parquet|jsonl, a TFDS folder, or a hub id; "" = sample set
  )
  sources: tuple[str, ...] = ()  # () = every source found under root
  weights: Table = field(default_factory=Table)  # source -> relative share; missing = by size
  template: str = (
    "compact"  # compact | full (the project's own words) | released (prompt field as is)
  )
  train_split: str = "train"
  eval_split: str = "test"
  max_prompt_tokens: int = 256  # longer prompts are left out and counted
  seed: int = 0  # shuffles the order of prompts

  def __post_init__(self):
    _one_of("data", "template", self.template, ("compact", "full", "released"))
    _at_least("data", "max_prompt_tokens", self.max_prompt_tokens, 1)
    for source, weight in self.weights.items():
      _at_least("data", f"weights[{source!r}]", weight, 0.0)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
  """Sampling of completions."""

  group_size: int = 8  # G: completions sampled per prompt
  max_new_tokens: int = 320  # decode budget per completion, tokens
  prompt_buckets: tuple[int, ...] = (128, 192, 256)  # padded prompt lengths, tokens
  prompts_at_once: int = 0  # decoded together; a waiting prompt follows one that ended; 0 = all
  segment: int = 64  # tokens decoded between looks at the host
  temperature: float = 1.0
  top_k: int = 0  # 0 = off
  top_p: float = 1.0  # 1 = off
  min_p: float = 0.0  # 0 = off
  stop: tuple[str, ...] = ("</response>",)  # a row ends with the token that completes one of these

  def __post_init__(self):
    if self.group_size < 2:
      raise BadInput(
        f"rollout.group_size={self.group_size}: a group baseline needs at least 2 samples; use 2 or more"
      )
    _at_least("rollout", "max_new_tokens", self.max_new_tokens, 1)
    _at_least("rollout", "prompts_at_once", self.prompts_at_once, 0)
    _at_least("rollout", "segment", self.segment, 1)
    _at_least("rollout", "temperature", self.temperature, 0.0)
    _at_least("rollout", "top_k", self.top_k, 0)
    _fraction("rollout", "top_p", self.top_p)
    _fraction("rollout", "min_p", self.min_p)
    if not self.prompt_buckets:
      raise BadInput("rollout.prompt_buckets=(): must hold at least one length")
    _ascending("rollout", "prompt_buckets", self.prompt_buckets)


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
  """Who judges a response."""

  kind: str = "rule"  # rule | http | recorded
  model: str = ""  # http: model name sent to the endpoint
  base_url: str = ""  # http: OpenAI-compatible endpoint, e.g. http://localhost:8000/v1
  api_key_env: str = "OPENAI_API_KEY"  # http: environment variable that holds the key
  concurrency: int = 16  # http: requests under way at once
  deadline_s: float = 60.0  # http: one verdict, all its retries included
  max_attempts: int = 4  # http: tries per verdict
  breaker_failures: int = 20  # http: consecutive failures that open the circuit breaker
  breaker_cooldown_s: float = 10.0  # http: pause before the breaker lets one call through
  cache: str = ""  # SQLite file of verdicts; "" = <workdir>/judge_cache.sqlite
  log: str = ""  # recorded: JSONL of verdicts to replay
  max_invalid_frac: float = 0.5  # a step or evaluation with more rows without verdict ends the run

  def __post_init__(self):
    _one_of("rewards.judge", "kind", self.kind, ("rule", "http", "recorded"))
    _at_least("rewards.judge", "concurrency", self.concurrency, 1)
    _at_least("rewards.judge", "max_attempts", self.max_attempts, 1)
    _fraction("rewards.judge", "max_invalid_frac", self.max_invalid_frac)
    if self.kind == "http" and not (self.base_url and self.model):
      raise BadInput(
        "rewards.judge.kind='http' needs rewards.judge.base_url and rewards.judge.model"
      )
    if self.kind == "recorded" and not self.log:
      raise BadInput("rewards.judge.kind='recorded' needs rewards.judge.log=FILE.jsonl")


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
  """The mutual-welfare reward; weights as in the paper (corrected mode reads the same names)."""

  mode: str = "corrected"  # corrected | paper
  variant: str = "cobb_douglas"  # cobb_douglas | user | llm | linear | pareto (paper mode only)
  alpha: float = 0.5  # Cobb-Douglas exponent of user utility
  floor: float = 1e-4  # added to U and L
  user_answer: float = 0.5
  user_length: float = 0.2
  user_brief: float = 0.3
  llm_format: float = 0.2
  llm_decision: float = 0.2  # weight of d (corrected) or pay (paper)
  llm_answer: float = 0.4
  llm_length: float = 0.2
  response_words: tuple[int, int] = (20, 500)  # soft band of the response length, words
  completion_words: tuple[int, int] = (500, 1000)  # soft band of the whole completion, words
  length_slope: float = 0.005  # per word, of the sigmoids of both bands
  brief_scale: float = 500.0  # characters of reasoning at which brief falls to 1/e
  cq_max_words: int = 15  # words a CQ response may have outside its question
  aq_min_words: int = 5  # words an AQ response must have outside its question
  source_norm: str = "none"  # none|zscore|minmax|robustz|cdf|quantile|james|decentralize|selfadapt
  tasks: Table = field(default_factory=Table)  # own tasks: data_source -> "package.module:function"
  judge: JudgeConfig = field(default_factory=JudgeConfig)

  def __post_init__(self):
    _one_of("rewards", "mode", self.mode, ("corrected", "paper"))
    _one_of("rewards", "variant", self.variant, ("cobb_douglas", "user", "llm", "linear", "pareto"))
    if self.variant == "pareto" and self.mode != "paper":
      raise BadInput("rewards.variant='pareto' exists in rewards.mode='paper' only; set both")
    norms = [
      "none",
      "zscore",
      "minmax",
      "robustz",
      "cdf",
      "quantile",
      "james",
      "decentralize",
      "selfadapt",
    ]
    _one_of("rewards", "source_norm", self.source_norm, norms)
    _fraction("rewards", "alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
  """The policy optimisation; names and defaults follow verl, TRL's names in comments."""

  steps: int = 100  # optimiser batches of fresh rollouts
  prompts_per_step: int = 8  # P: prompts a step, over all devices
  train_samples: int = 0  # of each group those of widest reward spread are trained on; 0 = all
  inner_epochs: int = 1  # passes over one rollout (TRL num_iterations)
  micro_prompts: int = 0  # prompts per gradient accumulation slice; 0 = all at once
  micro_samples: int = 0  # completions of each prompt per slice; 0 = all at once
  # completion tokens that slices are cut to, below max_new_tokens; () = its quarters
  length_buckets: tuple[int, ...] = ()
  kind: str = "grpo"  # grpo | gspo | cispo
  advantage: str = "grpo"  # grpo | dr_grpo | rloo | reinforce_baseline | gdpo
  gdpo_weights: tuple[float, float] = (0.5, 0.5)  # weights of (U, L) in gdpo
  aggregation: str = "token-mean"  # how per-token losses become one number (FORMULAS: verl names)
  clip_low: float = 0.2
  clip_high: float = 0.2
  dual_clip: float | None = None  # c of dual clip; 3 in the paper's recipe
  kl_coef: float = 0.0  # weight of KL to the start policy in the loss
  kl_estimator: str = "k3"  # k1 | k2 | k3, a + suffix = that value with k2's gradient
  mismatch: str = "off"  # sampler/trainer correction: off | token | sequence
  mismatch_mode: str = "truncate"  # truncate | mask
  mismatch_bounds: tuple[float, float] = (0.0, 2.0)
  overlong_buffer: int = 0  # tokens before the budget in which length is punished; 0 = off
  mask_truncated: bool = False  # leave rows that hit the budget out of the loss

  def __post_init__(self):
    _one_of("grpo", "kind", self.kind, ("grpo", "gspo", "cispo"))
    kinds = ("grpo", "dr_grpo", "rloo", "reinforce_baseline", "gdpo")
    _one_of("grpo", "advantage", self.advantage, kinds)
    aggregations = (
      "token-mean",
      "seq-mean-token-mean",
      "seq-mean-token-sum",
      "seq-mean-token-sum-norm",
    )
    _one_of("grpo", "aggregation", self.aggregation, aggregations)
    estimators = ("k1", "k2", "k3", "k1+", "k2+", "k3+")
    _one_of("grpo", "kl_estimator", self.kl_estimator, estimators)
    _one_of("grpo", "mismatch", self.mismatch, ("off", "token", "sequence"))
    _one_of("grpo", "mismatch_mode", self.mismatch_mode, ("truncate", "mask"))
    _at_least("grpo", "steps", self.steps, 0)
    _at_least("grpo", "prompts_per_step", self.prompts_per_step, 1)
    if self.train_samples:
      _at_least("grpo", "train_samples", self.train_samples, 2)
    _at_least("grpo", "inner_epochs", self.inner_epochs, 1)
    _at_least("grpo", "kl_coef", self.kl_coef, 0.0)
    _ascending("grpo", "length_buckets", self.length_buckets)
    if self.micro_prompts and self.prompts_per_step % self.micro_prompts:
      raise BadInput(
        f"grpo.micro_prompts={self.micro_prompts} does not divide "
        f"grpo.prompts_per_step={self.prompts_per_step}; use a divisor, or 0 for one slice"
      )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
  """AdamW with linear warm-up, then constant or cosine decay."""

  lr: float = 1e-6  # peak learning rate
  warmup: int = 0  # steps of linear warm-up from 0
  decay: str = "constant"  # constant | cosine (to final_lr_frac of the peak) | linear
  final_lr_frac: float = 0.1
  b1: float = 0.9
  b2: float = 0.95
  eps: float = 1e-8
  weight_decay: float = 0.0  # on matrices only, never on norms and biases
  max_grad_norm: float = 1.0  # global-norm clip

  def __post_init__(self):
    _one_of("optim", "decay", self.decay, ("constant", "cosine", "linear"))
    if self.lr <= 0:
      raise BadInput(f"optim.lr={self.lr}: must be positive")
    _at_least("optim", "warmup", self.warmup, 0)
    if self.max_grad_norm <= 0:
      raise BadInput(f"optim.max_grad_norm={self.max_grad_norm}: must be positive")


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
  """Supervised warm start on chains synthesised from labels."""

  steps: int = 0  # 0 = no warm start
  batch_size: int = 8  # chains an update
  micro_batch: int = 0  # chains per gradient accumulation slice; 0 = all at once
  max_tokens: int = 640  # prompt + chain; longer ones are left out and counted
  length_bucket: int = 32  # slices are padded to a multiple of so many tokens
  data: str = ""  # JSONL of chains (gtalign synthesize); "" = synthesise from the training prompts
  every: int = 20  # steps between checkpoints of the warm start
  optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4, warmup=3, decay="linear"))

  def __post_init__(self):
    _at_least("sft", "steps", self.steps, 0)
    _at_least("sft", "batch_size", self.batch_size, 1)
    _at_least("sft", "length_bucket", self.length_bucket, 1)
    if self.micro_batch and self.batch_size % self.micro_batch:
      raise BadInput(
        f"sft.micro_batch={self.micro_batch} does not divide sft.batch_size={self.batch_size}; "
        "use a divisor, or 0 for one slice"
      )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """Evaluation on held-out prompts."""

  every: int = 20  # GRPO steps between evaluations; 0 = only at the end
  prompts: int = 16  # held-out prompts, spread evenly over the sources
  group_size: int = 2  # completions per prompt
  temperature: float = 1.0
  bootstrap: int = 2000  # resamples of the paired intervals

  def __post_init__(self):
    _at_least("eval", "prompts", self.prompts, 1)
    _at_least("eval", "group_size", self.group_size, 1)


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Device mesh; one device is (1, 1, 1). -1 takes what the other axes leave."""

  data: int = -1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    sizes = (self.data, self.fsdp, self.tensor)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
      raise BadInput(f"mesh={sizes}: sizes are positive, and at most one is -1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
  """When the run is saved."""

  every: int = 10  # GRPO steps between checkpoints; the last step is always saved
  keep: int = 2  # newest checkpoints kept, besides the best one

  def __post_init__(self):
    _at_least("checkpoint", "every", self.every, 1)
    _at_least("checkpoint", "keep", self.keep, 1)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
  """Where numbers go besides metrics.jsonl."""

  tensorboard: bool = False  # needs the extra `tensorboard`
  wandb: str = ""  # W&B project name; needs the extra `wandb`
  samples: int = 4  # completions a step kept in samples/step_*.jsonl
