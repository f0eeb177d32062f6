"""JSON-ready values: whatever a row of parquet, JSONL or the hub may hold, as JSON carries it."""

import datetime
import decimal
import re
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from gtalign_jax.errors import BadInput

MAX_DEPTH = 100  # levels of nesting; a few hundred more end in Python's own limit
# What a text may not hold: UTF-8, and so every tokenizer, has no bytes for half a surrogate pair,
# and at NUL other programs take a text for ended.
_UNFIT = re.compile("[\x00\ud800-\udfff]")
_MISSING = ("NaTType", "NAType")  # of pandas, by name: it need not be imported to be recognised


def plain(value: Any, replaced: list[str] | None = None, depth: int = 0) -> Any:
  """`value` out of None, booleans, numbers, texts, lists and dicts with texts as keys.

  NaN, NaT and NA are None. Dates and times are ISO 8601, durations, decimals and all else as
  `str` gives them; infinities as well. Bytes are UTF-8, others in them \\xNN. Sets are sorted.
  replaced: gets the texts in which lone surrogates and NUL became U+FFFD. Raises BadInput where
  the nesting is deeper than MAX_DEPTH.
  """
  if value is None or type(value) in (bool, int):
    return value
  if isinstance(value, str):
    return _text(value, replaced)
  if depth > MAX_DEPTH:
    raise BadInput(f"is nested more than {MAX_DEPTH} levels deep")
  if isinstance(value, Mapping):
    return {_text(str(k), replaced): plain(v, replaced, depth + 1) for k, v in value.items()}
  if isinstance(value, Set):  # sorted: Python's order of a set differs between processes
    value = sorted(value, key=str)
  elif isinstance(value, np.ndarray) and value.ndim:
    value = list(value)  # not tolist(), which makes bare numbers of times in nanoseconds
  if isinstance(value, (list, tuple)):
    return [plain(each, replaced, depth + 1) for each in value]
  return _scalar(value, replaced)


def _text(value: str, replaced: list[str] | None) -> str:
  clean = _UNFIT.sub("\ufffd", value)
  if replaced is not None and clean != value:
    replaced.append(clean)
  return str(clean)  # of a subclass, such as NumPy's, the plain text


def _scalar(value: Any, replaced: list[str] | None) -> Any:
  if isinstance(value, np.ndarray):  # of no dimension
    value = value[()]
  if isinstance(value, (np.datetime64, np.timedelta64)):
    return None if np.isnat(value) else str(value)
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float):
    missing = value != value
    return None if missing else float(value) if abs(value) != np.inf else str(value)
  if isinstance(value, (bool, int)):
    return value if isinstance(value, bool) else int(value)
  if type(value).__name__ in _MISSING or (isinstance(value, decimal.Decimal) and value.is_nan()):
    return None
  if isinstance(value, (bytes, bytearray, memoryview)):
    return _text(bytes(value).decode("utf-8", "backslashreplace"), replaced)
  if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date as well
    return value.isoformat()
  return _text(str(value), replaced)
