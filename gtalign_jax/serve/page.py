"""The chat page at `/`: one file; the pricing presets and the game's words are written into it."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from gtalign_jax.game import pricing
from gtalign_jax.report.labels import TYPE_WORDS
from gtalign_jax.types import ACTION_WORDS


async def page(request: Request) -> Response:
  """The route `/`. The page itself holds nothing secret, so it is served without a key."""
  text, policy = rendered()
  headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
  return HTMLResponse(text, headers=headers)


@functools.cache
def rendered() -> tuple[str, str]:
  """The page, and a policy under which a browser runs its one script and nothing else.

  Named by its hash, so that no markup in a model's text could run even if it became markup.
  """
  source = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
  policies = {name: pricing.table(each) for name, each in pricing.PRESETS.items()}
  game = {"policies": policies, "types": TYPE_WORDS, "actions": ACTION_WORDS}
  templates = Environment(autoescape=True)
  templates.policies["json.dumps_kwargs"] = {}  # jinja sorts keys, the matrix has an order
  text = templates.from_string(source).render(game=game)
  (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  policy = (
    f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
  )
  return text, policy
