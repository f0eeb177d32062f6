"""Answers and errors in OpenAI's form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gtalign_jax.serve.choice import Delta, Model
from gtalign_jax.serve.fields import Refused

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}


def error(refused: Refused) -> dict[str, Any]:
  """The body of an error."""
  kind = "server_error" if refused.status >= 500 else "invalid_request_error"
  said = {"message": refused.message, "type": KINDS.get(refused.status, kind)}
  return {"error": said | {"param": refused.param, "code": refused.code}}


def usage(prompt: int, completion: int) -> dict[str, int]:
  """Counts of tokens."""
  total = prompt + completion
  return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}


def logprobs(model: Model, deltas: Sequence[Delta]) -> dict[str, Any]:
  """The log-probabilities of the tokens of the content, as they were sampled."""
  entries = []
  for token in (token for delta in deltas for token in delta.tokens):
    piece = model.pieces[token.id]
    text = piece.decode(errors="replace")
    made = {"token": text, "logprob": token.logp, "bytes": list(piece), "top_logprobs": []}
    entries.append(made)
  return {"content": entries, "refusal": None}


def whole(model: Model, index: int, deltas: Sequence[Delta], with_logprobs: bool) -> dict[str, Any]:
  """A choice of an answer that is not streamed."""
  content, game = "".join(each.content for each in deltas), deltas[-1].game
  message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
  return {
    "index": index,
    "message": message | ({} if game is None else {"game": game}),
    "logprobs": logprobs(model, deltas) if with_logprobs else None,
    "finish_reason": deltas[-1].finish,
  }


def part(model: Model, index: int, delta: Delta, with_logprobs: bool) -> dict[str, Any]:
  """A choice of a chunk of a stream."""
  said: dict[str, Any] = {"content": delta.content} if delta.content else {}
  if delta.game is not None:
    said["game"] = delta.game
  return {
    "index": index,
    "delta": said,
    "logprobs": logprobs(model, [delta]) if with_logprobs and delta.tokens else None,
    "finish_reason": delta.finish,
  }


def event(data: dict[str, Any]) -> bytes:
  """A server-sent event."""
  return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
