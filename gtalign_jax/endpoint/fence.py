"""Prompts that hold what others wrote: fenced off, so that a model reads it and does not obey."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

_SLOT = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")


def fenced(template: str, parts: Mapping[str, str], notice: str) -> str:
  """`notice`, then `template` with each {part} between two lines that mark it as data.

  notice: says so, of the lines {begin} and {end}. {{ is a brace. The marks hold a hash of the
  parts, so that no part can hold them. Raises KeyError where the template names another part.
  """
  seed = "\0".join(parts.values()).encode("utf-8", "surrogatepass")
  mark = hashlib.sha256(seed).hexdigest()[:12]  # the same each time: answers are cached by it
  begin, end = f"<<<DATA {mark}", f"DATA {mark}>>>"

  def fill(match: re.Match[str]) -> str:
    name = match[1]
    return f"{begin}\n{parts[name]}\n{end}" if name else match[0][0]

  return f"{notice.format(begin=begin, end=end)}\n\n{_SLOT.sub(fill, template)}"
