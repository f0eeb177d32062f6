"""From records to token ids: a template of the project's own, or the released prompt as it is."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gtalign_jax.data import chat_template, conditions, literal
from gtalign_jax.data.chat_template import ChatTemplate
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import GAME, has_payoff

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

TEMPLATES = Path(__file__).parent / "templates"
# compact: characters kept of each earlier turn of the assistant; tried one after the other until a
# prompt fits. What the user said is never cut: a vague request is vague by what it leaves out.
CLIPS = (None, 240, 80)


class Encoded(NamedTuple):
  """Prompts ready for the policy.

  records: those that fit. ids: their token ids, int32 arrays. left_out: count of over-long ones.
  choices: the same prompts under each condition of `data.condition`, for training to draw from;
  () where there is nothing to draw.
  """

  records: list[Record]
  ids: list[np.ndarray]
  left_out: int
  choices: tuple[Encoded, ...] = ()


def encode(
  records: Sequence[Record],
  tokenizer: PreTrainedTokenizerBase,
  data_config: DataConfig,
  every_condition: bool = False,
  form: str = GAME,
) -> Encoded:
  """Applies `data.template` and the tokenizer's chat template, generation prompt included.

  Prompts over `data.max_prompt_tokens` are left out, never cut; `compact` first clips earlier turns
  of the assistant. Each prompt has the condition drawn for it; every_condition: under all others it
  is in `choices` as well, and is left out where it does not fit under one of them. form: of the
  chain that the template asks for. Raises BadInput where no prompt is left, `released` has no
  prompt to release or one that asks for another form, or the chat template does not do with a
  record or with `data.template_arguments`.
  """
  if data_config.template == "released" and not data_config.root:
    raise BadInput(
      "data.template='released' needs data.root: prompts of the sample set hold no instructions; "
      "use compact or full"
    )
  if not records:
    return Encoded([], [], 0)
  grid = conditions.grid(data_config)
  drawn = [conditions.draw(data_config, record.id, len(grid)) for record in records]
  if every_condition:
    versions = [[conditions.conditioned(record, each) for record in records] for each in grid]
  else:
    versions = [[conditions.conditioned(each, grid[k]) for each, k in zip(records, drawn)]]
  found = [_fitting(version, tokenizer, data_config, form) for version in versions]
  # as in the source: the order of a run must not depend on who was clipped
  order = [i for i in range(len(records)) if all(i in fits for fits in found)]
  count = len(records) - len(order)
  choices = tuple(
    Encoded([version[i] for i in order], [fits[i] for i in order], count)
    for version, fits in zip(versions, found)
  )
  if len(choices) == 1:
    return choices[0]
  picked = [choices[drawn[i]] for i in order]
  return Encoded(
    [each.records[at] for at, each in enumerate(picked)],
    [each.ids[at] for at, each in enumerate(picked)],
    count,
    choices,
  )


def _fitting(
  records: Sequence[Record],
  tokenizer: PreTrainedTokenizerBase,
  data_config: DataConfig,
  form: str,
) -> dict[int, np.ndarray]:
  """Index -> token ids of the records that fit."""
  template, limit = data_config.template, data_config.max_prompt_tokens
  model_template = chat_template.of(tokenizer, data_config.template_arguments)
  fits: dict[int, np.ndarray] = {}
  lengths: dict[int, int] = {}
  for clip in CLIPS if template == "compact" else CLIPS[:1]:
    tried = [i for i, each in enumerate(records) if i not in fits and _changes(each, clip)]
    chats = [messages(records[i], template, clip, form) for i in tried]  # which did not fit yet
    names = [records[i].id for i in tried]
    for i, ids in zip(tried, _tokenize(chats, names, tokenizer, model_template)):
      lengths[i] = len(ids)
      if len(ids) <= limit:
        fits[i] = ids
  if not fits:
    raise BadInput(
      f"data.max_prompt_tokens={limit}: every prompt is longer, the shortest has "
      f"{min(lengths.values())} tokens with data.template={template!r}; raise it (and "
      "rollout.prompt_buckets)"
    )
  return fits


def continued(
  records: Sequence[Record],
  said: Sequence[Sequence[dict[str, str]]],
  tokenizer: PreTrainedTokenizerBase,
  data_config: DataConfig,
  form: str = GAME,
) -> list[np.ndarray]:
  """Token ids of what later turns of a conversation read, int32; none is left out for its length.

  said: of each record, what followed its own chat: the assistant's response, the user's reply, …
  Records are those of an `Encoded`: the prompt that fitted comes first, as it was.
  """
  if not records:
    return []
  template = chat_template.of(tokenizer, data_config.template_arguments)
  chats = []
  for record, more in zip(records, said, strict=True):
    fits = functools.partial(_fits, record, tokenizer, data_config, template, form)
    clip = next(clip for clip in CLIPS if fits(clip))
    chats.append([*messages(record, data_config.template, clip, form), *more])
  return _tokenize(chats, [record.id for record in records], tokenizer, template)


def _fits(
  record: Record,
  tokenizer: PreTrainedTokenizerBase,
  data_config: DataConfig,
  template: ChatTemplate,
  form: str,
  clip: int | None,
) -> bool:
  """Whether the prompt of `record` fits when it is clipped so; True where clipping is no help."""
  if data_config.template != "compact" or clip == CLIPS[-1] or not _changes(record, CLIPS[-1]):
    return True
  chat = messages(record, data_config.template, clip, form)
  return (
    len(_tokenize([chat], [record.id], tokenizer, template)[0]) <= data_config.max_prompt_tokens
  )


def _changes(record: Record, clip: int | None) -> bool:
  """Does `clip` shorten the record's prompt? True without a clip: the first try is for all."""
  if clip is None:
    return True
  past = conversation(record)[1][:-1]
  return any(turn["role"] == "assistant" and len(turn["content"]) > clip for turn in past)


def messages(
  record: Record, template: str, clip: int | None = None, form: str = GAME
) -> list[dict[str, str]]:
  """The chat that the policy sees, which asks for chains of `form`.

  released: the prompt field as it is (records without ground truth hold no instructions: `full`),
  with what the record's condition says at the end of the system turn.
  compact, full: the template as system turn; then one user turn, the last question preceded by
  the conversation so far. clip: characters kept of each earlier turn of the assistant.
  """
  if template == "released":
    # the released rows carry instructions and label together; a row without label has neither
    if record.ground_truth is not None:
      if not has_payoff(form) and _is_instructed(record):
        raise BadInput(
          f"data.template='released': the prompt of {record.id!r} asks for payoffs, and "
          f"chain.form={form!r} has none; use compact or full"
        )
      return _with_condition(record)
    template = "full"
  own, turns = conversation(record)
  # the condition last: what all prompts begin with is computed once
  parts = [template_text(template, form), *own, conditions.sentence(record)]
  system = "\n\n".join(part for part in parts if part)
  question = turns[-1]["content"]
  if len(turns) > 1:
    past = "\n".join(_spoken(turn, clip) for turn in turns[:-1])
    question = f"Conversation so far:\n{past}\n\nQuestion: {question}"
  return [{"role": "system", "content": system}, {"role": "user", "content": question}]


def _with_condition(record: Record) -> list[dict[str, str]]:
  """The record's own chat, its condition said in the system turn (a new one where it has none)."""
  chat, said = [dict(message) for message in record.messages], conditions.sentence(record)
  if said and chat[0]["role"] == "system":
    chat[0]["content"] += f"\n\n{said}"
  elif said:
    chat.insert(0, {"role": "system", "content": said})
  return chat


def conversation(record: Record) -> tuple[list[str], list[dict[str, str]]]:
  """(system texts of the record's own, turns of user and assistant), free of instructions.

  Of rows whose prompt field holds GTAlign's instructions, `chat_history` is the conversation, else
  `single_turn_prompt`; of rows of bare chat messages, the messages are.
  """
  # instructions of the released prompts must not reach a template that brings its own: two formats
  # in one prompt teach neither
  history = record.extra_info.get("chat_history")
  if history:
    return [], [dict(turn) for turn in history if turn["role"] != "system"]
  whole = record.extra_info.get("single_turn_prompt")
  if _is_instructed(record) and isinstance(whole, str) and whole:
    return [], [{"role": "user", "content": whole}]
  system = [m["content"] for m in record.messages if m["role"] == "system"]
  return system, [dict(m) for m in record.messages if m["role"] != "system"]


def _is_instructed(record: Record) -> bool:
  """Whether the prompt itself asks for the four blocks, as released ones do."""
  return any("<payoff>" in message["content"] for message in record.messages)


@functools.cache
def template_text(name: str, form: str = GAME) -> str:
  """The instructions of template `name` for chains of `form`."""
  return (TEMPLATES / form / f"{name}.txt").read_text(encoding="utf-8").strip()


def _spoken(turn: dict[str, str], clip: int | None) -> str:
  text = turn["content"]
  if turn["role"] == "assistant" and clip and len(text) > clip:
    text = text[:clip].rsplit(None, 1)[0] + " …"  # at a word's end
  return f"{turn['role'].capitalize()}: {text}"


def _tokenize(
  chats: Sequence[list[dict[str, str]]],
  names: Sequence[str],
  tokenizer: PreTrainedTokenizerBase,
  template: ChatTemplate,
) -> list[np.ndarray]:
  """Token ids of each chat, int32, as the model's chat template spells them.

  names: of the records, for messages. Control tokens in a chat's texts are encoded as text.
  """
  control = literal.Control(tokenizer, template.source)
  forged = [i for i, chat in enumerate(chats) if any(map(control.stands_in, _contents(chat)))]
  texts = [template.render(chat, name) for chat, name in zip(chats, names, strict=True)]
  # all together, since the tokenizer encodes a list in parallel; those few once more
  found = _ids(texts, tokenizer)
  again = control.encode([chats[i] for i in forged], template, [names[i] for i in forged])
  for i, ids in zip(forged, again):
    found[i] = ids
  return [np.asarray(ids, np.int32) for ids in found]


def chat_ids(
  chat: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, data_config: DataConfig
) -> np.ndarray:
  """Token ids of one chat as it is, int32. Raises BadInput where the model's chat template does."""
  template = chat_template.of(tokenizer, data_config.template_arguments)
  return _tokenize([chat], ["messages"], tokenizer, template)[0]


def _contents(chat: Sequence[dict[str, str]]) -> list[str]:
  return [message["content"] for message in chat]


def _ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
  if not texts:  # of none, the tokenizer makes an error
    return []
  return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]


def text_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
  """Token ids of plain texts, such as chains; control tokens in them are encoded as text."""
  control = literal.Control(tokenizer)
  forged = [i for i, text in enumerate(texts) if control.stands_in(text)]
  found = _ids(texts, tokenizer)
  for i, ids in zip(forged, control.encode_text([texts[i] for i in forged])):
    found[i] = ids
  return found
