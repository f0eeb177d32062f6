"""Addresses of endpoints and of the proxies before them: read, checked, and shown without secrets.

Standard library only: configs check their addresses with it.
"""

import contextlib
import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from gtalign_jax.errors import BadInput

EXAMPLE = "it reads like http://localhost:8000/v1"
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
# parameters of a query that hold a secret (`key`, `api_key`, `subscription-key`, `sig`, …)
_SECRET = re.compile(
  r"(?i)(?:.*[-_.])?(?:api)?(?:key|token|secret|passw(?:or)?d|pwd|sig|signature|code|auth)"
)


class Address(NamedTuple):
  """base: without a slash at its end. query: sent with every request. host: without brackets."""

  base: str
  query: str
  scheme: str
  host: str
  port: int

  def of(self, path: str) -> str:
    """The URL of a path below the base."""
    return f"{self.base}{path}" + (f"?{self.query}" if self.query else "")

  def is_local(self) -> bool:
    """Whether the host is this machine, which no proxy can reach."""
    ip = _ip(self.host)
    # 0.0.0.0 is what servers print; a client that asks it reaches its own machine
    local = ip is not None and (ip.is_loopback or ip.is_unspecified)
    return local or f".{self.host}".endswith(".localhost")


class Proxy(NamedTuple):
  """variable: the one of the environment that names it."""

  url: str
  variable: str

  def __str__(self) -> str:
    return f"{self.variable}={masked(self.url)}"


def masked(url: str) -> str:
  """A URL as it may be shown: without user, password and secrets of its query."""

  def hidden(part: re.Match[str]) -> str:
    return f"{part[1]}{part[2]}=***" if _SECRET.fullmatch(part[2]) else part[0]

  url = re.sub(r"//.*@", "//***@", url)
  url = re.sub(r"^[^/]*@", "***@", url)  # an address without a scheme can hold a password, too
  return re.sub(r"([?&])([^=&]*)=([^&#]*)", hidden, url)


def parse(url: str, key: str, secret: str = "the environment variable of the key") -> Address:
  """The address of an OpenAI-compatible endpoint; a path of /chat/completions is taken off.

  key: the key of the config, for errors. Raises BadInput, which shows no secret, where `url` is no
  address, or holds a secret.
  """
  url = url.strip()
  where, parts = f"{key}={masked(url)!r}", _split(url)
  kept = "which would be written to disk; take it out"
  if parts is None or parts.scheme not in ("http", "https"):
    hint = f"; write http://{masked(url)}" if re.match(r"[\w.-]+(:\d+)?(/|$)", url) else ""
    raise BadInput(f"{where} is no address; {EXAMPLE}{hint}")
  if "@" in parts.netloc:
    raise BadInput(f"{where} holds a user name or a password, {kept} and put the key into {secret}")
  if parts.fragment:
    raise BadInput(f"{where} holds a #, which no server gets to see; take it out")
  if any(_SECRET.fullmatch(each.partition("=")[0]) for each in parts.query.split("&")):
    raise BadInput(f"{where} holds a key in its query, {kept} and put the key into {secret}")
  path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
  base, host = f"{parts.scheme}://{parts.netloc}{path}", (parts.hostname or "").rstrip(".")
  port = parts.port or {"http": 80, "https": 443}[parts.scheme]
  return Address(base, parts.query, parts.scheme, host, port)


def _split(url: str) -> SplitResult | None:
  """The parts of a URL with a host; None where it is none."""
  if re.search(r"[\s\x00-\x1f\\]", url):  # urlsplit would drop some of these without a word
    return None
  try:
    parts = urlsplit(url)
    return parts if parts.hostname and parts.port != 0 else None
  except ValueError:  # a port that is no number, a bracket that is not closed
    return None


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
  try:
    return ipaddress.ip_address(host.partition("%")[0])
  except ValueError:
    return None


def proxy(address: Address, environment: Mapping[str, str] = os.environ) -> Proxy | None:
  """The proxy that the environment names for an address; None: it is reached without.

  Raises BadInput, naming the variable, where that is none.
  """
  if address.is_local() or _excepted(address, _variable("no_proxy", environment)[1]):
    return None
  for name in (f"{address.scheme}_proxy", "all_proxy"):
    variable, value = _variable(name, environment)
    if value:
      return Proxy(_proxy_url(variable, value, address.host), variable)
  return None


def _variable(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
  """(name, value) of a variable in lower case, or else in capitals, as curl and Python read it."""
  found = name if name in environment else name.upper()
  return found, environment.get(found, "").strip()


def _proxy_url(variable: str, value: str, host: str) -> str:
  url = value if "://" in value else f"http://{value}"  # host:port is common, and means http
  url = re.sub("^socks://", "socks5://", url)  # what desktops write
  where = f"{variable}={masked(value)!r}"
  otherwise = f"unset {variable}, or add {host} to NO_PROXY"
  parts = _split(url)
  if parts is None or parts.scheme not in PROXY_SCHEMES:
    raise BadInput(
      f"{where} is no proxy that can be used ({', '.join(PROXY_SCHEMES)}); it reads like "
      f"http://host:3128: correct it, {otherwise}"
    )
  if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
    fix = f"install it, {otherwise}"
    raise BadInput(f"{where} is a SOCKS proxy, which needs the package socksio; {fix}")
  return url


def _excepted(address: Address, no_proxy: str) -> bool:
  """Whether NO_PROXY names the host: its name, domain, address or network, with a port, or `*`."""
  ip = _ip(address.host)
  for entry in filter(None, re.split(r"[\s,]+", no_proxy.lower())):
    name, _, port = entry.rpartition(":") if re.search(r"[^:]:\d+$", entry) else (entry, "", "")
    name = name.strip("[]").removeprefix("*").removeprefix(".")
    found = not name or f".{address.host}".endswith(f".{name}")  # "": it was `*`
    with contextlib.suppress(ValueError):  # a name
      found |= ip is not None and ip in ipaddress.ip_network(name, strict=False)
    if found and (not port or int(port) == address.port):
      return True
  return False
