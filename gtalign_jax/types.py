"""Pytrees that cross the borders between rooms, and the legend of axis letters.

Axes, used as suffixes of array names (`logits_BTV`):
  B rows (= P prompts x G samples)   P prompts   G samples of one prompt   T time (tokens)
  C completion time   S cache slots   D width   N query heads   K key/value heads   H head dim
  F mlp width   V vocabulary   L layers   U user types (DQ, VQ)   A actions (DA, CQ, AQ)
  R roles (LLM, user)
Masks are bool or 0/1 float; True (1) means the entry counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
  import jax

  Array = jax.Array
else:
  Array = Any
# A field of a pytree: an array on the host or the device, or its shape or sharding in a tree of the
# same form.
Leaf = Any

USER_TYPES = ("DQ", "VQ")
ACTIONS = ("DA", "CQ", "AQ")
POLICIES = (
  "grpo",
  "sft",
  "base",
)  # of a run, newest first: differences are what was added
ACTION_WORDS = {"DA": "answer (DA)", "CQ": "ask (CQ)", "AQ": "answer + ask (AQ)"}
ROLES = ("LLM", "user")
CELLS = tuple(f"{user}_{action}" for user in USER_TYPES for action in ACTIONS)  # index 3*u + a
BLOCKS = ("thinking", "payoff", "analyze", "response")
REASONING = ("thinking", "analyze")  # the blocks whose brevity the user is paid for
# the tags of each form of the chain (`chain.form`), in their order; none: the bare response
FORMS = {"game": BLOCKS, "think": ("thinking", "response"), "none": ()}
GAME = "game"  # the form with a matrix, and the default wherever a form can be said


def has_payoff(form: str) -> bool:
  """Whether chains of this form hold a matrix, and so a choice to speak of."""
  return "payoff" in FORMS[form]


def action_of(cell: str | None) -> str | None:
  """The action of a cell by name; None where none is named."""
  return cell and cell.rpartition("_")[2]


class Branches(NamedTuple):
  """What each of a prompt's G rows reads after the prompt, before it goes on; left-padded.

  tokens_BC: int32 token ids. length_B: int32 number of real tokens, -1 for a row that never runs.
  grammar_B: as Prompts.grammar_P, of each row.
  """

  tokens_BC: Leaf
  length_B: Leaf
  grammar_B: Leaf = None


class Prompts(NamedTuple):
  """One batch of tokenised prompts, right-padded.

  tokens_PT: int32 token ids. length_P: int32 number of real tokens in each row.
  row_P: int32 global index of the prompt within its step; sampling keys are derived from it.
  branches: None where all rows of a prompt go on from its end. grammar_P: int32 state of the
  `Grammar` in which completions begin; None where there is none.
  """

  tokens_PT: Leaf
  length_P: Leaf
  row_P: Leaf
  branches: Branches | None = None
  grammar_P: Leaf = None


class Grammar(NamedTuple):
  """Which tokens may follow (rollout/constrain.py), as tables that every device holds whole.

  Tokens with the same effect in every state share a class c: class_V int32. next_SC: int32 state
  after a token. latest_SC: int32, a row that has written t tokens may draw one of the class while
  t <= latest; -1 for never. State 1 is the end of a chain, where all may follow.
  """

  class_V: Leaf
  next_SC: Leaf
  latest_SC: Leaf


class KVCache(NamedTuple):
  """Keys (after rope) and values of attended tokens; heads before time.

  k, v: [L, B, K, S, H] stacked, or a tuple of L arrays [B, K, S, H] where a decode loop donates
  them.
  """

  k: Any
  v: Any


class Context(NamedTuple):
  """Prompt KV that the G completions of each prompt attend to.

  cache: KVCache over P rows. mask_PS: which slots are real. positions_PS: int32 rope positions.
  """

  cache: KVCache
  mask_PS: Array
  positions_PS: Array


class Rollout(NamedTuple):
  """Completions of one batch of prompts, rows ordered prompt-major (row = p * G + g).

  tokens_BC: sampled ids, right-padded. mask_BC: True for sampled tokens, the EOS included.
  logp_BC: f32 log-probability of each token under the tempered, untruncated policy; under a
  `Grammar`, of the tokens that it allows.
  stopped_B: True where the row ended by EOS or a stop string, False where it ran out of budget.
  """

  tokens_BC: Leaf
  mask_BC: Leaf
  logp_BC: Leaf
  stopped_B: Leaf


class Experience(NamedTuple):
  """What flows through one GRPO step (train/grpo.py), filled in from left to right; B = P * G.

  collect     prompts: token ids of each. rollout. rows: one row of `gtalign eval` per completion,
              prompt-major, all processes' rows. count_PG, length_P: tokens of each completion
              and prompt. head_P: those at the end of a prompt that its chains begin with
              (None where none do).
  reward      reward_PG: float64, what is maximised; NaN where a row has no verdict. utility_PGC:
              float64, C = (U, L), NaN likewise.
  resample    dropped_tokens: of completions that gave way to others.
  select      trained_PG: rows that the update sees. valid_PG: those of them with a verdict, and in
              a group that carries a signal where others are dropped. counted_PG: those of valid_PG
              whose tokens the loss counts.
  on_mesh     prompts: `Prompts`. rollout: on the devices. block_BC: int8, likewise, the block that
              holds each token, -1 outside of all. block_PGK: tokens of each completion in each of
              BLOCKS. grammar: what completions were drawn by, None where by none.
  score       f32, None where nothing asks for them: old_logp_BC, ref_logp_BC, of the policy before
              the first update and of the reference; value_BC of the critic.
  advantages  advantage: f32, [B], or [B, C] with a critic; 0 where invalid. mask_BC: tokens that
              the loss counts. return_BC: what values should have been, with a critic. statistics:
              metrics of them, on the device.
  What has PG in its name, and rows, is on the host; everything is before `on_mesh`.
  later: the turns of conversations after the first, an experience of its own with groups of one
  (its prompts are what a turn reads), without rewards; parent_P then says which of the B rows each
  of them belongs to. Of a conversation, rows holds one for all its turns, and count_PG counts the
  first one's tokens.
  """

  prompts: Any
  rollout: Rollout
  rows: list[dict[str, Any]]
  count_PG: Any
  length_P: Any = None
  head_P: Any = None
  reward_PG: Any = None
  utility_PGC: Any = None
  trained_PG: Any = None
  valid_PG: Any = None
  counted_PG: Any = None
  block_PGK: Any = None
  grammar: Grammar | None = None
  block_BC: Leaf = None
  old_logp_BC: Leaf = None
  ref_logp_BC: Leaf = None
  value_BC: Leaf = None
  advantage: Leaf = None
  mask_BC: Leaf = None
  return_BC: Leaf = None
  dropped_tokens: int = 0
  statistics: Any = None
  later: Experience | None = None
  parent_P: Any = None


class TrainBatch(NamedTuple):
  """What one optimiser step sees; B = P * G.

  prompt: the prompts once each. tokens_BC, mask_BC: completions. The others are f32 and None where
  they are not needed. advantage: [B], or [B, C] with a critic; 0 where invalid. sampler_logp_BC: as
  sampled. old_logp_BC, ref_logp_BC: of the policy before the first update, of the reference.
  value_BC, return_BC: of the critic before the first update, and what it should have said.
  block_BC: int8, the block of the chain that holds each token, as in Experience. grammar: whole,
  however few rows there are.
  """

  prompt: Prompts
  tokens_BC: Leaf
  mask_BC: Leaf
  advantage: Leaf = None
  sampler_logp_BC: Leaf = None
  old_logp_BC: Leaf = None
  ref_logp_BC: Leaf = None
  value_BC: Leaf = None
  return_BC: Leaf = None
  block_BC: Leaf = None
  grammar: Grammar | None = None


class Fixed(NamedTuple):
  """Parameters that no update touches.

  frozen: base weights under adapters (None unless LoRA). reference: the policy that KL is measured
  against, in the form of TrainState.params (None without KL).
  """

  frozen: Any = None
  reference: Any = None


class TrainState(NamedTuple):
  """Everything that a step changes and a checkpoint holds.

  step: int32 scalar. params: pytree. opt_state: optax state. skipped: int32 count of updates left
  out for non-finite gradients. critic: a TrainState of its own, None without one.
  """

  step: Leaf
  params: Any
  opt_state: Any
  skipped: Leaf
  critic: Any = None
