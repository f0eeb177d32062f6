"""Is the endpoint of the judge there, before anything is sampled for it?"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import openai  # not a client of our own: the same proxies and certificates as the judge's calls

from gtalign_jax.errors import BadInput, RunFailure, first_line
from gtalign_jax.sections import JudgeConfig

DEADLINE_S = 5.0  # to connect and to answer a request that no model has to think about


def ping(config: JudgeConfig, deadline_s: float = DEADLINE_S) -> None:
  """Asks for the list of models, which costs nothing; any answer but 401 and 403 will do.

  Raises BadInput where the address is none or the key is refused; RunFailure where nobody answers:
  the same command may succeed once the endpoint is up.
  """
  where = f"rewards.judge.base_url={config.base_url!r}"
  if not _is_address(config.base_url):
    raise BadInput(f"{where} is no address; it reads like http://localhost:8000/v1")
  # servers that want no key are sent one all the same, as http.py does
  key = os.environ.get(config.api_key_env) or "none"
  try:
    with openai.OpenAI(
      base_url=config.base_url, api_key=key, max_retries=0, timeout=deadline_s
    ) as client:
      client.models.with_raw_response.list()
  except openai.APIStatusError as error:  # many servers have no such list: 404, 405, 501
    if error.status_code in (401, 403):
      raise BadInput(
        f"{where} refuses the key ({error.status_code}); set the environment variable "
        f"{config.api_key_env}, which rewards.judge.api_key_env names"
      ) from None
  except openai.APIConnectionError as error:
    cause = error.__cause__ or error
    # connected, and no answer yet: a server of one thread that is at work on somebody's question
    if type(cause).__name__ != "ReadTimeout":
      raise RunFailure(
        f"{where} does not answer ({first_line(cause)}); start the judge, or correct the address, "
        "and run the same command again"
      ) from None


def _is_address(url: str) -> bool:
  try:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
  except ValueError:  # a port that is no number, a bracket that is not closed
    return False
