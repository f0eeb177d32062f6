"""One request to an endpoint: address, key, proxy, and what its answer means."""

import math
import os
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit

import httpx2

from gtalign_jax import address as addresses
from gtalign_jax.endpoint.breaker import Breaker
from gtalign_jax.endpoint.reply import NoReply, Reply, error_text, read
from gtalign_jax.endpoint_sections import EndpointConfig
from gtalign_jax.errors import BadInput, first_line

RETRIED = (408, 409, 425, 429)  # and those from 500 on
MAX_BYTES = 4 << 20  # of a reply; a verdict is a few kB
CONNECT_S = 4.0  # an address that swallows packets is found out before the deadline


class Again(Exception):
  """Worth another try. seconds: as the server asked, or None. gone: nobody (of use) is there."""

  def __init__(self, why: str, seconds: float | None = None, gone: bool = False):
    super().__init__(why)
    self.seconds, self.gone = seconds, gone


class Refused(Exception):
  """The endpoint does not take the request."""

  def __init__(self, status: int, said: str):
    super().__init__(said or "no reason given")
    self.status = status


class Wire:
  """The connections to one endpoint, in one event loop until closed.

  The key is read from the environment and kept out of errors. Raises BadInput where the address,
  the key or the proxy of the environment cannot be used.
  """

  def __init__(self, config: EndpointConfig, breaker: Breaker):
    section, self._breaker = config.SECTION, breaker
    self._address = addresses.parse(config.base_url, f"{section}.base_url", config.api_key_env)
    self._key = _key(config)
    self._proxy = addresses.proxy(self._address)
    if self._key and self._key in config.base_url:
      raise BadInput(f"{section}.base_url holds the key, and is written to disk; take it out")
    through = f" (through the proxy {self._proxy})" if self._proxy else ""
    self.name = f"{section}.base_url={config.base_url!r}{through}"
    # ours, not the library's reading of the environment: it sends localhost to a proxy
    proxy = self._proxy.url if self._proxy else None
    try:
      limits = httpx2.Limits(max_connections=None)  # `concurrency` bounds them
      transport = httpx2.AsyncHTTPTransport(proxy=proxy, limits=limits)
    except (OSError, ValueError, httpx2.InvalidURL) as error:
      raise BadInput(
        f"{self.name} cannot be asked ({self.clean(str(error))}); correct SSL_CERT_FILE or the "
        "proxy of the environment"
      ) from None
    secret = self._key or "none"  # servers that want none do not look
    azure = "api-version=" in self._address.query.lower()
    headers = {"api-key": secret} if azure else {"Authorization": f"Bearer {secret}"}
    # identity: a compressed body of a few kB could unfold to any size
    headers |= {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    self._http = httpx2.AsyncClient(
      transport=transport, timeout=timeout, follow_redirects=True, headers=headers
    )

  async def close(self) -> None:
    await self._http.aclose()

  async def send(self, body: bytes) -> Reply:
    """The reply to a chat completion. Raises Again or Refused."""
    try:
      status, headers, text = await self._post(body)
      if 200 <= status < 300:
        reply = read(text)
        self._breaker.worked()
        return reply
      said = error_text(text)
    except NoReply as error:
      status, headers, said = error.status, {}, str(error)
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError, ValueError) as error:
      why = self.clean(_reason(error))
      if isinstance(error, httpx2.ProxyError) and "407" in why:
        raise Refused(407, why) from None
      self._breaker.failed()
      raise Again(f"{self.name} does not answer ({why})", gone=True) from None
    said = self.clean(said)
    if 300 <= status < 500 and status not in RETRIED:
      self._breaker.worked()  # it is there and answers
      raise Refused(status, said)
    if status != 429:  # to be asked to wait is no failure
      self._breaker.failed()
    why = f"{self.name} answers{f' {status}' if status else ''}: {said or 'nothing'}"
    # without a status: a sign-in page, or whatever else is no API
    raise Again(why, _retry_after(headers), gone=not status)

  async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], str]:
    """(status, headers, text). Raises NoReply where it is too large, and httpx2's errors."""
    size, parts, url = 0, [], self._address.of("/chat/completions")
    async with self._http.stream("POST", url, content=body) as response:
      if response.request.method != "POST":
        # 301 and 302 make it a GET: of a sign-in page, or of the right address
        moved = response.history[0].headers.get("location", "")
        return 301, {}, f"moved to {addresses.masked(moved)}"
      async for part in response.aiter_bytes():
        size += len(part)
        if size > MAX_BYTES:
          raise NoReply(f"a reply of more than {MAX_BYTES >> 20} MB")
        parts.append(part)
      text = b"".join(parts).decode("utf-8-sig", "replace")
      return response.status_code, response.headers, text

  def clean(self, text: str) -> str:
    """One line without secrets: endpoints say the key that they refuse."""
    parts = urlsplit(self._proxy.url if self._proxy else "")
    held = [each for each in (self._key, parts.password, parts.username) if each]
    for secret in [*held, *(quote(each, safe="") for each in held), *map(unquote, held)]:
      text = text.replace(secret, "***")
    return re.sub(r"\bsk-\S+", "***", " ".join(text.split()))[:200]


def _key(config: EndpointConfig) -> str:
  key = os.environ.get(config.api_key_env, "").strip()  # keys read from files end in a line break
  if not (key.isascii() and key.isprintable()):
    raise BadInput(
      f"the environment variable {config.api_key_env}, which {config.SECTION}.api_key_env names, "
      "holds characters that no key has; set it again"
    )
  return key


def _reason(error: BaseException) -> str:
  """What went wrong, in the system's words where an error has them."""
  cause: BaseException | None = error
  while cause is not None:
    if isinstance(cause, ConnectionError) and cause.errno:
      return os.strerror(cause.errno)  # asyncio says "Connect call failed" to all of them
    if isinstance(cause, OSError) and cause.errno:
      return first_line(cause)
    cause = cause.__cause__ or cause.__context__
  return f"{type(error).__name__}: {first_line(error)}"


def _retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
  """Seconds that a reply asks to wait: `retry-after-ms`, seconds or a date; None if it does not."""
  text = headers.get("retry-after", "")
  try:
    if "retry-after-ms" in headers:
      seconds = float(headers["retry-after-ms"]) / 1000
    elif re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
      seconds = float(text)
    else:
      seconds = parsedate_to_datetime(text).timestamp() - (time.time() if now is None else now)
  except (ValueError, TypeError):  # of a header that is not there, too
    return None
  return max(seconds, 0.0) if math.isfinite(seconds) else None
