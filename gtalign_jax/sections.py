"""The sections of a config: a frozen dataclass per room, with every knob, its default and its rule.

Sections are hashable, so they serve as jit static arguments. Every name that a knob can take stands
here once; kernels import it. Standard library only: `gtalign --help` and `score` must start fast.

A knob is *identity* or *placement*. Identity decides the numbers of a run and may not change
between its starts. Placement, `placed(…)` (fields.py), says where and how the run computes: it
moves numbers in their last bits at most (sums in another order), so a run goes on when it changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gtalign_jax.errors import BadInput
from gtalign_jax.fields import (
  EXTENDABLE,
  Table,
  ascending,
  at_least,
  band,
  divides,
  fraction,
  one_of,
  placed,
  positive,
  settle,
)
from gtalign_jax.types import FORMS, GAME

DTYPES = ("float32", "bfloat16")
REMATS = ("none", "full", "dots", "names")  # what the backward pass computes again: models/decoder
LORA_TARGETS = ("q", "k", "v", "o", "gate", "up", "down")
TEMPLATES = ("compact", "full", "released")
CONDITIONS = ("none", "alpha", "pricing")  # what a prompt may say of its own reward
# suites of an evaluation by name: the sources that GTAlign trains on, those it holds out
SUITES = {
  "in": ("math-hard", "medium", "ambig_qa", "wildguard"),
  "ood": ("minerva", "abg-coqa", "advbench"),
  "concierge": ("concierge",),
}
SUITES["all"] = tuple(source for suite in SUITES.values() for source in suite)
# what every chat template is given anyway: data/chat_template.py
TEMPLATE_GIVEN = ("messages", "add_generation_prompt", "tools", "documents", "self")
LOSSES = ("grpo", "gspo", "cispo")
GROUP_ADVANTAGES = ("grpo", "dr_grpo", "rloo", "reinforce_baseline", "gdpo")
ADVANTAGES = (*GROUP_ADVANTAGES, "gae")  # gae: PPO, with the critic of section `critic`
TRUNKS = ("own", "shared")
AGGREGATIONS = (
  "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm",
)  # fmt: skip
KL_ESTIMATORS = ("k1", "k2", "k3", "k1+", "k2+", "k3+")
MISMATCHES = ("off", "token", "sequence", "sequence-geometric")
MISMATCH_MODES = ("truncate", "mask")
# mode and bounds of each level that is on; a geometric mean hardly moves, so its band is narrow
MISMATCH_DEFAULTS = {
  "token": ("truncate", (0.0, 2.0)),
  "sequence": ("truncate", (0.0, 2.0)),
  "sequence-geometric": ("mask", (0.99, 1.01)),
}
CHAIN_END = "</response>"
DECAYS = ("constant", "cosine", "linear")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
  """How the policy is held and computed."""

  param_dtype: str = "float32"  # DTYPES: master weights
  dtype: str = "float32"  # DTYPES: matmuls and activations; bfloat16 on TPU and GPU
  remat: str = placed("none")  # REMATS: memory against a second forward pass, in part or whole
  lora_rank: int = 0  # 0: train every weight; r > 0: train rank-r adapters only
  lora_alpha: float = 16.0  # adapter scale = alpha / rank (or alpha / sqrt(rank))
  lora_rank_stabilised: bool = False  # rsLoRA (Kalajdzievski 2023): alpha / sqrt(rank)
  lora_targets: tuple[str, ...] = LORA_TARGETS  # which matrices of a layer get adapters

  def __post_init__(self):
    settle("policy", self)
    one_of("policy.param_dtype", self.param_dtype, DTYPES)
    one_of("policy.dtype", self.dtype, DTYPES)
    one_of("policy.remat", self.remat, REMATS)
    at_least("policy", self, 0, "lora_rank")
    positive("policy", self, "lora_alpha")
    for target in self.lora_targets:
      one_of("policy.lora_targets", target, LORA_TARGETS)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
  """Which prompts a run reads and how they are worded."""

  # folder of <source>/{train,test}.parquet|jsonl, a TFDS folder, or a hub id; "" = the sample set
  root: str = ""
  sources: tuple[str, ...] = ()  # () = every source found under root
  weights: Table = field(default_factory=Table)  # source -> relative share; missing = by size
  template: str = "compact"  # compact, full: the project's own words; released: the prompt as it is
  # of the model's chat template, e.g. {"enable_thinking": False}; what changes nothing is refused
  template_arguments: Table = field(default_factory=Table)
  train_split: str = "train"  # prompts that the policy learns from
  eval_split: str = "test"  # held-out prompts
  max_prompt_tokens: int = 256  # longer prompts are left out and counted
  # CONDITIONS: a weight of the user's utility, or prices; said in each prompt, read by its reward
  condition: str = "none"
  condition_alphas: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)  # the grid of alpha, in [0, 1]
  # presets or .toml policies (game/pricing) that pricing draws from
  condition_policies: tuple[str, ...] = ("free", "subscription", "pay_per_token")
  seed: int = 0  # shuffles the order of prompts and draws their conditions

  def __post_init__(self):
    settle("data", self)
    one_of("data.template", self.template, TEMPLATES)
    one_of("data.condition", self.condition, CONDITIONS)
    for key in ("condition_alphas", "condition_policies"):
      grid = getattr(self, key)
      if not grid or len(set(grid)) < len(grid):
        raise BadInput(f"data.{key}={grid}: must hold one or more, each once")
    if not all(0 <= alpha <= 1 for alpha in self.condition_alphas):
      raise BadInput(f"data.condition_alphas={self.condition_alphas}: must lie in [0, 1]")
    at_least("data", self, 1, "max_prompt_tokens")
    at_least("data", self, 0, "seed")
    for source, weight in self.weights.items():
      if isinstance(weight, (str, bool)) or weight < 0:
        raise BadInput(f"data.weights[{source!r}]={weight}: must be a number of at least 0")
    for name in self.template_arguments:
      if not name.isidentifier() or name in TEMPLATE_GIVEN:
        raise BadInput(
          f"data.template_arguments: {name!r} is no name that a chat template can take"
        )


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
  """What a completion is made of."""

  form: str = GAME  # FORMS: four blocks; thinking and response; the bare response

  def __post_init__(self):
    settle("chain", self)
    one_of("chain.form", self.form, tuple(FORMS))


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
  """Sampling of completions."""

  group_size: int = 8  # G: completions sampled per prompt
  max_new_tokens: int = 320  # decode budget per completion, tokens
  # The next three cut the work. What a row samples depends on (seed, step, row, token) alone.
  prompt_buckets: tuple[int, ...] = placed((128, 192, 256))  # padded prompt lengths, tokens
  prompts_at_once: int = placed(0)  # decoded together; others take the slots that end; 0 = all
  segment: int = placed(64)  # tokens decoded between looks at the host
  temperature: float = 1.0  # of sampling while training; 0 = greedy
  top_k: int = 0  # 0 = off
  top_p: float = 1.0  # 1 = off
  min_p: float = 0.0  # 0 = off
  stop: tuple[str, ...] = (CHAIN_END,)  # a row ends with the token that completes one of these
  # most tokens of each block, where only those are drawn that keep a chain strictly parseable and
  # within budget; what a block leaves over is the next one's (docs/algorithms.md); () = off
  constrain: tuple[int, ...] = ()
  # share of a step's prompts whose completions continue edited payoffs (docs/steering.md)
  intervene: float = 0.0

  def __post_init__(self):
    settle("rollout", self)
    at_least("rollout", self, 1, "group_size", "max_new_tokens", "segment")
    at_least("rollout", self, 0, "prompts_at_once", "temperature", "top_k")
    fraction("rollout", self, "top_p", "min_p")
    if self.constrain:
      self._check_constrain()
    if not 0 <= self.intervene < 1:
      raise BadInput(
        f"rollout.intervene={self.intervene}: must lie in [0, 1), 1 excluded: only whole chains "
        "train the policy to write payoffs"
      )
    if not self.prompt_buckets:
      raise BadInput("rollout.prompt_buckets=(): must hold at least one length")
    ascending("rollout", self, "prompt_buckets")

  def _check_constrain(self) -> None:
    given, total = f"rollout.constrain={self.constrain}", sum(self.constrain)
    if min(self.constrain) < 1:
      raise BadInput(f"{given}: must be numbers of at least 1, tokens of each block")
    if total > self.max_new_tokens:
      raise BadInput(
        f"{given}: that is {total} tokens, more than rollout.max_new_tokens="
        f"{self.max_new_tokens}; lower one of them, or raise rollout.max_new_tokens"
      )
    if others := set(self.stop) - {CHAIN_END}:
      raise BadInput(
        f"{given}: a chain that rollout.stop={self.stop} breaks off at {sorted(others)[0]!r} does "
        f"not parse; leave rollout.stop at {(CHAIN_END,)}"
      )


@dataclass(frozen=True, kw_only=True)
class GRPOConfig:
  """The policy optimisation; names and defaults follow verl, TRL's names in comments.

  Its optimiser is the section `optim` and its checkpoints `checkpoint`: those names are older than
  the warm start, which has its own under `sft`.
  """

  steps: int = field(default=100, metadata=EXTENDABLE)  # optimiser batches of fresh rollouts
  prompts_per_step: int = 8  # P: prompts per step, over all devices
  train_samples: int = 0  # of each group, those of widest reward spread are trained on; 0 = all
  inner_epochs: int = 1  # passes over one rollout (TRL num_iterations)
  # further rounds that replace groups whose rewards are all equal (verl max_num_gen_batches - 1)
  resample_rounds: int = 0
  # prompts per optimiser step (verl ppo_mini_batch_size); 0 = all: one step an inner epoch
  minibatch_prompts: int = 0
  # Slices: gradients add up to those of the whole batch, in another order of sums.
  micro_prompts: int = placed(0)  # prompts per gradient accumulation slice; 0 = all at once
  micro_samples: int = placed(0)  # completions of each prompt per slice; 0 = all at once
  # completion tokens that slices are cut to, below max_new_tokens; () = its quarters
  length_buckets: tuple[int, ...] = placed(())
  kind: str = "grpo"  # LOSSES: they differ only from the second update of a rollout on
  advantage: str = "grpo"  # ADVANTAGES
  gdpo_weights: tuple[float, float] = (0.5, 0.5)  # weights of (U, L) in gdpo
  aggregation: str = "token-mean"  # how per-token losses become one number (FORMULAS: verl names)
  clip_low: float = 0.2  # the ratio is clipped to [1 - clip_low, 1 + clip_high]
  clip_high: float = 0.2  # the upper bound of the ratio, see clip_low
  dual_clip: float | None = None  # c of dual clip; 3 in the paper's recipe
  kl_coef: float = 0.0  # weight of KL to the start policy in the loss
  kl_estimator: str = "k3"  # k1 | k2 | k3, a + suffix = that value with k2's gradient
  mismatch: str = "off"  # sampler/trainer correction: MISMATCHES
  mismatch_mode: str | None = None  # truncate | mask; none: see MISMATCH_DEFAULTS
  # weights are cut to these (truncate), or those outside become 0 (mask); none: MISMATCH_DEFAULTS
  mismatch_bounds: tuple[float, float] | None = None
  # a token whose own weight lies outside masks its row; none = off, (1e-4, 1e2) catches outliers
  mismatch_veto: tuple[float, float] | None = None
  overlong_buffer: int = 0  # tokens before the budget in which length is punished; 0 = off
  mask_truncated: bool = False  # leave rows that hit the budget out of the loss
  # factors of the loss of a token in thinking, payoff, analyze, response; 1 outside of all blocks
  block_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)

  def __post_init__(self):
    settle("grpo", self)
    one_of("grpo.kind", self.kind, LOSSES)
    one_of("grpo.advantage", self.advantage, ADVANTAGES)
    one_of("grpo.aggregation", self.aggregation, AGGREGATIONS)
    one_of("grpo.kl_estimator", self.kl_estimator, KL_ESTIMATORS)
    one_of("grpo.mismatch", self.mismatch, MISMATCHES)
    if self.mismatch_mode is not None:
      one_of("grpo.mismatch_mode", self.mismatch_mode, MISMATCH_MODES)
    at_least("grpo", self, 0, "steps", "micro_prompts", "micro_samples", "overlong_buffer")
    at_least("grpo", self, 0, "minibatch_prompts", "resample_rounds")
    at_least("grpo", self, 1, "prompts_per_step", "inner_epochs")
    at_least("grpo", self, 0, "kl_coef", "clip_high")
    if self.train_samples:
      at_least("grpo", self, 2, "train_samples")
    fraction("grpo", self, "clip_low")  # beyond 1 the lower bound of a ratio would be negative
    if self.dual_clip is not None and self.dual_clip <= 1:
      raise BadInput(f"grpo.dual_clip={self.dual_clip}: must be more than 1, or none for off")
    given = [key for key in ("mismatch_bounds", "mismatch_veto") if getattr(self, key) is not None]
    band("grpo", self, *given)
    if min(self.block_weights) < 0 or not any(self.block_weights):
      raise BadInput(f"grpo.block_weights={self.block_weights}: must be at least 0 and not all 0")
    if min(self.gdpo_weights) < 0 or not any(self.gdpo_weights):
      raise BadInput(f"grpo.gdpo_weights={self.gdpo_weights}: must be at least 0 and not both 0")
    ascending("grpo", self, "length_buckets")
    batch, size = "grpo.prompts_per_step", self.prompts_per_step
    if self.minibatch_prompts:
      divides(self.minibatch_prompts, size, "grpo.minibatch_prompts", batch)
      batch, size = "grpo.minibatch_prompts", self.minibatch_prompts
    divides(self.micro_prompts, size, "grpo.micro_prompts", batch)

  @property
  def updates(self) -> int:
    """Optimiser steps per rollout."""
    return (
      self.inner_epochs * self.prompts_per_step // (self.minibatch_prompts or self.prompts_per_step)
    )


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
  """AdamW with linear warm-up, then constant or cosine decay."""

  lr: float = 1e-6  # peak learning rate
  warmup: int = 0  # steps of linear warm-up from 0
  decay: str = "constant"  # constant | cosine (to final_lr_frac of the peak) | linear
  final_lr_frac: float = 0.1  # of the peak, where a decay ends
  b1: float = 0.9  # decay of Adam's first moment
  b2: float = 0.95  # decay of Adam's second moment
  eps: float = 1e-8  # added to the root of Adam's second moment
  weight_decay: float = 0.0  # on matrices only, never on norms and biases
  max_grad_norm: float = 1.0  # global-norm clip

  def __post_init__(self):
    settle("optim", self)
    one_of("optim.decay", self.decay, DECAYS)
    positive("optim", self, "lr", "eps", "max_grad_norm")
    at_least("optim", self, 0, "warmup", "weight_decay")
    fraction("optim", self, "final_lr_frac")
    for key in ("b1", "b2"):
      if not 0 <= getattr(self, key) < 1:  # at 1 a moment would stay 0, divided by 1 - 1
        raise BadInput(f"optim.{key}={getattr(self, key)}: must lie in [0, 1), 1 excluded")


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
  """The critic of PPO (`grpo.advantage="gae"`); defaults are those of the paper's recipe."""

  trunk: str = "own"  # TRUNKS: a decoder of its own that starts as the policy, or the policy's
  warmup_steps: int = 0  # first steps in which the critic alone learns
  value_clip: float = 0.5  # values move at most so far from the old ones before their loss counts
  gamma: float = 1.0  # discount per token
  lam: float = 1.0  # lambda of GAE; 1 = what really followed, 0 = what the critic expects next
  kl_coef: float = 0.0  # per-token KL to the start policy, taken off the reward
  optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5))

  def __post_init__(self):
    settle("critic", self)
    one_of("critic.trunk", self.trunk, TRUNKS)
    at_least("critic", self, 0, "warmup_steps", "kl_coef")
    positive("critic", self, "value_clip")
    fraction("critic", self, "gamma", "lam")


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
  """Supervised warm start on chains synthesised from labels."""

  steps: int = field(default=0, metadata=EXTENDABLE)  # optimiser updates; 0 = no warm start
  batch_size: int = 8  # chains per update
  micro_batch: int = placed(0)  # chains per gradient accumulation slice; 0 = all at once
  max_tokens: int = 640  # prompt + chain; longer ones are left out and counted
  length_bucket: int = placed(32)  # slices are padded to a multiple of so many tokens
  data: str = ""  # JSONL of chains (gtalign synthesize); "" = synthesise from the training prompts
  # share of the examples that continue other payoffs than the chain's own (docs/data.md)
  counterfactual: float = 0.5
  every: int = placed(20)  # steps between checkpoints of the warm start
  optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-4, warmup=3, decay="linear"))

  def __post_init__(self):
    settle("sft", self)
    at_least("sft", self, 0, "steps", "micro_batch")
    at_least("sft", self, 1, "batch_size", "length_bucket", "every")
    at_least("sft", self, 2, "max_tokens")  # a token of prompt and one of chain
    divides(self.micro_batch, self.batch_size, "sft.micro_batch", "sft.batch_size")
    if not 0 <= self.counterfactual < 1:
      raise BadInput(
        f"sft.counterfactual={self.counterfactual}: must lie in [0, 1), 1 excluded: only whole "
        "chains teach the policy to write payoffs"
      )


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
  """Evaluation on held-out prompts."""

  every: int = placed(20)  # GRPO steps between evaluations; 0 = only at the end
  prompts: int = 16  # held-out prompts, spread evenly over the sources
  group_size: int = 2  # completions per prompt
  temperature: float = 1.0  # 0 = greedy
  bootstrap: int = placed(2000)  # resamples of the paired intervals, drawn for the report alone
  # of them, whose chains also go on from edited matrices (game/follow, carry, hold); 0 = none
  intervene_prompts: int = placed(0)

  def __post_init__(self):
    settle("eval", self)
    at_least("eval", self, 0, "every", "temperature", "intervene_prompts")
    at_least("eval", self, 1, "prompts", "group_size", "bootstrap")
    if self.intervene_prompts > self.prompts:
      raise BadInput(
        f"eval.intervene_prompts={self.intervene_prompts}: must be at most eval.prompts="
        f"{self.prompts}, the prompts that are evaluated"
      )


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Device mesh; one device is (1, 1, 1). -1 takes what the other axes leave. Placement."""

  data: int = -1  # copies of the model, each with a part of the batch
  fsdp: int = 1  # devices that share the weights of one copy
  tensor: int = 1  # devices that share each matrix product; divides the number of heads

  def __post_init__(self):
    settle("mesh", self)
    sizes = (self.data, self.fsdp, self.tensor)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
      raise BadInput(f"mesh={sizes}: sizes are positive, and at most one is -1")


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
  """When the run is saved (the warm start: sft.every). Placement."""

  every: int = 10  # GRPO steps between checkpoints; the last step is always saved
  keep: int = 2  # newest checkpoints kept, besides the best one

  def __post_init__(self):
    settle("checkpoint", self)
    at_least("checkpoint", self, 1, "every", "keep")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
  """When a run warns that it goes wrong (train/watch.py); a limit of 0 turns it off. Placement."""

  window: int = 10  # GRPO steps whose means are compared
  # share of its best earlier window by which a mean may fall
  distinct_fall: float = 0.5  # of game/distinct_frac
  icc_fall: float = 0.5  # of game/payoff_icc
  parse_fall: float = 0.25  # of chain/parse_rate
  answer_fall: float = 0.1  # of rewards/answer/mean, while the reward rises
  clipped: float = 0.5  # share of completions that may run out of budget
  kl: float = 0.5  # KL to the start policy, nats a token
  skipped: int = 5  # updates skipped in a row that end the run, in the warm start too

  def __post_init__(self):
    settle("watch", self)
    at_least("watch", self, 2, "window")  # one step has no spread
    fraction("watch", self, "distinct_fall", "icc_fall", "parse_fall", "answer_fall", "clipped")
    at_least("watch", self, 0, "kl", "skipped")


@dataclass(frozen=True, kw_only=True)
class LogConfig:
  """Where numbers go besides metrics.jsonl. Placement."""

  tensorboard: bool = False  # needs the extra `tensorboard`
  wandb: str = ""  # W&B project name; needs the extra `wandb`
  samples: int = 4  # completions per step kept in samples/step_*.jsonl

  def __post_init__(self):
    settle("log", self)
    at_least("log", self, 0, "samples")
