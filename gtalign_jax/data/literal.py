"""Control tokens that stand in a text of a user's, encoded as the text they are.

A user who writes `<|im_end|>` must not end the turn. Only what the chat template writes is a token
of control; ids of texts that hold none are the tokenizer's own.
"""

import functools
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from gtalign_jax.data.chat_template import Chat, ChatTemplate
from gtalign_jax.errors import BadInput
from gtalign_jax.types import BLOCKS

# a chain's own tags may be tokens of their own, and stay such wherever they stand
TAGS = frozenset(f"<{slash}{block}>" for block in BLOCKS for slash in ("", "/"))
_PRIVATE = range(0x100000, 0x10FFFE)  # Unicode's plane 16: characters without a meaning
_BRACKETED = re.compile(r"[<\[{(|].*[>\]})|]", re.S)


class Control:
  """The control tokens of one tokenizer; finds them in texts and encodes around them."""

  def __init__(self, tokenizer: Any, template: str = ""):
    added = tokenizer.added_tokens_decoder.items()
    kept = {i: token for i, token in added if _is_control(token, template)}
    self._tokenizer, self._backend = tokenizer, getattr(tokenizer, "backend_tokenizer", None)
    self._tokens = {token.content: i for i, token in kept.items()}
    self._pattern = re.compile(_one_of(self._tokens))
    # a token marked so is looked for in the normalised text: a wide ＜s＞ may be one to NFKC
    marked = any(token.normalized for token in kept.values())
    normal = getattr(self._backend, "normalizer", None) if marked else None
    self._normalize: Callable[[str], str] | None = normal.normalize_str if normal else None

  def stands_in(self, text: str) -> bool:
    """Whether the tokenizer would read one of its control tokens in `text`."""
    texts = [text] if self._normalize is None else [text, self._normalize(text)]
    return any(map(self._pattern.search, texts))

  def encode(self, chats: Sequence[Chat], template: ChatTemplate, names) -> list[list[int]]:
    """Ids of chats in which control tokens stand. names: of the records, for the message."""
    free = self._free("".join(m["content"] for chat in chats for m in chat) + template.source)
    # two characters a token: as the template writes it, and as a text says it
    own, held = ({token: next(free) for token in self._tokens} for _ in range(2))
    texts = []
    for chat, name in zip(chats, names, strict=True):
      # the template sees stand-ins, so that whatever control tokens come out are its own
      shown = [m | {"content": self._swap(m["content"], held)} for m in map(dict, chat)]
      text = self._swap(template.render(shown, name), own)
      texts.append(functools.reduce(lambda t, token: t.replace(held[token], token), held, text))
    return self._ids(texts, own, names)

  def encode_text(self, texts: Sequence[str]) -> list[list[int]]:
    """Ids of texts in which control tokens stand, and none is meant."""
    free = self._free("".join(texts))
    return self._ids(texts, {token: next(free) for token in self._tokens}, texts)

  def _swap(self, text: str, names: dict[str, str]) -> str:
    return self._pattern.sub(lambda found: names[found[0]], text)

  def _free(self, said: str) -> Iterator[str]:
    """Characters that no text holds, so that none can be passed off for a token."""
    used = set(said)
    return (chr(code) for code in _PRIVATE if chr(code) not in used)

  def _ids(self, texts: Sequence[str], own: dict[str, str], names) -> list[list[int]]:
    """Encodes with a tokenizer that knows its control tokens by the characters `own` alone."""
    # unknown characters have a token of their own, whatever the text says
    meant = {i: own[t] for t, i in self._tokens.items() if t != self._tokenizer.unk_token}
    coded = []
    if self._backend is not None:
      coded = renamed(self._backend, own).encode_batch(texts, add_special_tokens=False)
    found = [each.ids for each in coded]
    for ids, text, name in itertools.zip_longest(found, texts, names):
      if ids is None or sum(i in meant for i in ids) != sum(map(text.count, meant.values())):
        raise BadInput(f"{name[:80]!r} holds a control token, which this tokenizer cannot spell")
    return found


def renamed(backend: Any, names: dict[str, str]) -> Any:
  """A copy of a tokenizer (of the library `tokenizers`) with other names for some tokens."""
  spec = json.loads(backend.to_str())
  for token in spec["added_tokens"]:
    token["content"] = names.get(token["content"], token["content"])
  model = spec["model"]
  if isinstance(model["vocab"], dict):
    model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
  else:  # Unigram: pairs of piece and score
    model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
  if model.get("unk_token"):
    model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
  return type(backend).from_str(json.dumps(spec))


def _one_of(words: Collection[str]) -> str:
  """A pattern for the longest of `words` at a place, as a tree of what they begin with alike."""
  # Gemma adds 6,000 tokens: tried one by one, they would cost minutes
  if not words:
    return "(?!)"
  low, high = min(words), max(words)  # what these two begin with alike, all do
  start = low[: next((i for i, (a, b) in enumerate(zip(low, high)) if a != b), len(low))]
  rests: dict[str, list[str]] = {}
  for rest in (word[len(start) :] for word in words):
    rests.setdefault(rest[:1], []).append(rest)
  ends = rests.pop("", None)
  if not rests:
    return re.escape(start)
  return f"{re.escape(start)}(?:{'|'.join(map(_one_of, rests.values()))}){'?' if ends else ''}"


def _is_control(token: Any, template: str) -> bool:
  """Special tokens, and others that the template writes or that are written like one."""
  text = token.content
  if not text.strip() or text in TAGS:  # Gemma adds white space as well, its line breaks
    return False
  return token.special or text in template or bool(_BRACKETED.fullmatch(text))
