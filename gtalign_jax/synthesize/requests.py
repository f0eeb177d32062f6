"""The same label with a request of the other type: what makes a request vague is how it is worded.

Of the warm start alone. A source whose records are all definite, or all vague, would teach that the
type follows from the source; these say the same thing once with what is needed and once without.
"""

from __future__ import annotations

import random
import tomllib
from importlib import resources

from gtalign_jax.data import intents
from gtalign_jax.data.records import Record
from gtalign_jax.synthesize import replies

_WORDINGS = tomllib.loads(
  resources.files("gtalign_jax.synthesize").joinpath("requests.toml").read_text("utf-8")
)
# what their labels mean is known
SOURCES = ("ambig_qa", "math-hard", "medium", "minerva", "wildguard")
_VAGUE = {"solve": "problem", "answer": "question", "help": "question", "write": "text"}


def other(record: Record, seed: int) -> Record | None:
  """The record with a request of the other type, a function of (record, seed); None without one.

  What is left out of a definite request is in `single_turn_prompt`, as in released records; a vague
  one gives way to that, or to one of its readings. Harmful requests have no other.
  """
  if record.data_source not in SOURCES:
    return None
  rng = random.Random(f"{seed}/other/{record.id}")
  own = replies.case(record, rng)
  if own.kind in _VAGUE:
    found = _vague(record, own.kind, rng)
  elif own.kind == "meanings":
    found = _reading(record, rng)
  else:  # "" where nobody knows what was meant
    found = _asked(record, _whole(record), record.ground_truth)
  turned = found is not None and replies.case(found, rng).user_type != own.user_type
  return found if turned else None


def _vague(record: Record, kind: str, rng: random.Random) -> Record | None:
  full = _asked(record, _whole(record), record.ground_truth) or record
  topic = "".join(replies.topic(full, most=1)).lower()
  asked = rng.choice(_WORDINGS[_VAGUE[kind]]).format(topic=topic) if topic else ""
  # of a question nothing is known but that it was not asked yet
  truth = "ambiguous" if kind == "answer" else record.ground_truth
  return _asked(record, asked, truth)


def _reading(record: Record, rng: random.Random) -> Record | None:
  known = intents.readings((record.ground_truth or "").partition("###")[2])
  if not known:
    return None
  meaning, answer = rng.choice(known)
  return _asked(record, meaning[:1].upper() + meaning[1:], f"singleAnswer###{answer}")


def _whole(record: Record) -> str:
  whole = record.extra_info.get("single_turn_prompt")
  return whole if isinstance(whole, str) else ""


def _asked(record: Record, text: str, truth: str | None) -> Record | None:
  """The record as one turn of the user; None for no text."""
  if not text.strip():
    return None
  turns = [{"role": "user", "content": text}]
  whole = _whole(record) or " ".join(replies.turns(record))
  extra = record.extra_info | {"chat_history": turns, "single_turn_prompt": whole}
  if truth == "unharmful":  # the answer on record is that to the other request
    extra = {key: value for key, value in extra.items() if key != "reference"}
  return Record(f"{record.id}/other", record.data_source, turns, truth, extra)
