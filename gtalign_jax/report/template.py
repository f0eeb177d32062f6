"""Pages from their templates: one file without scripts or references to the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

# Control characters, as the signs that Unicode has for them; those above 127 have none.
CONTROLS = {each: 0x2400 + each for each in range(32) if chr(each) not in "\t\n"}
CONTROLS |= {127: 0x2421} | dict.fromkeys(range(128, 160), 0xFFFD)


def filled(template: str, facts: Mapping[str, Any]) -> str:
  """The page; facts: by the names that the template has for them."""
  loader = jinja2.FileSystemLoader(Path(__file__).parent)
  # whatever a model, a prompt or a config wrote is escaped where it enters the page
  pages = jinja2.Environment(loader=loader, autoescape=True)
  # the templates have no control characters; a browser would drop them, or act on them
  text = pages.get_template(template).render(facts).translate(CONTROLS)
  # lone surrogates that a model wrote have no UTF-8; browsers show &#55296; as a replacement mark
  return text.encode("utf-8", "xmlcharrefreplace").decode("utf-8")
