"""Addresses of endpoints, and the proxies that the environment names for them."""

import importlib.util

import pytest

from gtalign_jax import address
from gtalign_jax.endpoint_sections import JudgeConfig
from gtalign_jax.errors import BadInput


def chat(url):
  return address.parse(url, "key").of("/chat/completions")


@pytest.mark.parametrize(
  ("url", "asked"),
  [
    ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
    ("http://localhost:8000/v1/", "http://localhost:8000/v1/chat/completions"),
    ("  https://api.example.com/v1//\n", "https://api.example.com/v1/chat/completions"),
    ("HTTPS://x", "https://x/chat/completions"),
    ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
    ("http://h/v1/chat/completions/", "http://h/v1/chat/completions"),
    (
      "https://h/openai/deployments/x?api-version=2024-10-21",
      "https://h/openai/deployments/x/chat/completions?api-version=2024-10-21",
    ),
    ("https://h/v1/chat/completions?a=b&c=d", "https://h/v1/chat/completions?a=b&c=d"),
    ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
  ],
)
def test_where_requests_go(url, asked):
  assert chat(url) == asked


@pytest.mark.parametrize(
  "url",
  [
    "localhost:8000/v1", "127.0.0.1", "ftp://x/v1", "http://", "http:///v1", "http:/x/v1",
    "http://x:abc/v1", "http://x:0/v1", "http://x:99999/v1", "http://[::1/v1", "http://a b/v1",
    "http://x/v\n1", "http://x\\v1", "$URL", "https//x/v1", "socks5://x/v1",
  ],
)  # fmt: skip
def test_what_is_no_address(url):
  with pytest.raises(BadInput, match=r"^key=.* is no address; it reads like http://localhost"):
    chat(url)


def test_a_scheme_that_was_left_out_is_named():
  with pytest.raises(BadInput, match=r"; write http://gpu7:8000/v1$"):
    chat("gpu7:8000/v1")


@pytest.mark.parametrize(
  "url",
  [
    "http://me:hunter2@h/v1", "https://hunter2@h/v1", "https://h/v1?key=hunter2",
    "https://h/v1?a=b&api_key=hunter2", "https://h/v1?subscription-key=hunter2",
    "https://h/v1?sig=hunter2", "https://h/v1?access_token=hunter2", "me:hunter2@h:80/v1",
    "http://me:hunter2/x@h/v1",
  ],
)  # fmt: skip
def test_a_secret_in_an_address_is_refused_and_not_shown(url):
  with pytest.raises(BadInput) as caught:
    JudgeConfig(kind="http", model="m", base_url=url)
  assert "hunter2" not in str(caught.value)
  assert "rewards.judge.base_url=" in str(caught.value)


def test_a_key_in_place_of_its_variable_is_refused_and_not_shown():
  with pytest.raises(BadInput, match="must be the name of an environment variable") as caught:
    JudgeConfig(api_key_env="sk-abc")
  assert "sk-abc" not in str(caught.value)


def proxy(url, **environment):
  return address.proxy(address.parse(url, "key"), environment)


def test_which_proxy():
  both = {"http_proxy": "http://low:1", "HTTP_PROXY": "http://high:1", "HTTPS_PROXY": "s:2"}
  assert proxy("http://h/v1", **both) == ("http://low:1", "http_proxy")
  assert proxy("https://h/v1", **both) == ("http://s:2", "HTTPS_PROXY")
  assert proxy("https://h/v1", ALL_PROXY="http://a:3") == ("http://a:3", "ALL_PROXY")
  assert proxy("http://h/v1", http_proxy="", HTTP_PROXY="http://high:1") is None
  assert proxy("http://h/v1", HTTPS_PROXY="nonsense://") is None  # of no use here
  assert proxy("http://h/v1") is None
  assert str(address.Proxy("http://me:pw@p:1", "HTTP_PROXY")) == "HTTP_PROXY=http://***@p:1"


@pytest.mark.parametrize(
  "host", ["localhost", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]", "0.0.0.0", "LocalHost."]
)
@pytest.mark.parametrize("bad", ["http://127.0.0.1:9", "socks://127.0.0.1:9/", "nonsense"])
def test_this_machine_is_never_behind_a_proxy(host, bad):
  assert proxy(f"http://{host}:8000/v1", ALL_PROXY=bad, http_proxy=bad) is None


@pytest.mark.parametrize(
  ("no_proxy", "skipped"),
  [
    ("*", True), ("h.corp.org", True), ("corp.org", True), (".corp.org", True), ("*.corp.org", True),
    ("a, corp.org", True), ("corp.org:8000", True), ("corp.org:9", False), ("rp.org", False),
    ("", False), (",", False), ("H.CORP.ORG", True), ("10.0.0.0/8", False),
  ],
)  # fmt: skip
def test_names_that_need_no_proxy(no_proxy, skipped):
  found = proxy("http://h.corp.org:8000/v1", HTTP_PROXY="http://p:1", NO_PROXY=no_proxy)
  assert (found is None) == skipped


@pytest.mark.parametrize(
  ("host", "no_proxy", "skipped"),
  [
    ("10.1.2.3", "10.0.0.0/8", True), ("10.1.2.3", "10.1.2.3", True), ("11.1.2.3", "10.0.0.0/8", False),
    ("[fd00::7]", "fd00::/8", True), ("[fd00::7]", "fd00::7", True), ("[fd00::7]", "[fd00::7]:80", True),
  ],
)  # fmt: skip
def test_networks_that_need_no_proxy(host, no_proxy, skipped):
  found = proxy(f"http://{host}/v1", http_proxy="p:1", no_proxy=no_proxy)
  assert (found is None) == skipped


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"])
@pytest.mark.parametrize(
  "value",
  [
    "htp://p:1", "http://", "http://:9", "http://p:x", "http://p:0", "http://[p", "p p", "socks4://p:1",
    "http://me:hunter2@", "://", "file:///etc/passwd",
  ],
)  # fmt: skip
def test_a_proxy_that_is_none_is_named(name, value):
  with pytest.raises(BadInput, match=f"^{name}=.* is no proxy.*unset {name}, or add h to NO_PROXY"):
    proxy("http://h/v1", **{name: value})


@pytest.mark.parametrize("value", ["socks://p:1/", "socks5://me:hunter2@p:1", "socks5h://p"])
def test_socks_needs_a_package(value):
  if importlib.util.find_spec("socksio"):
    assert proxy("http://h/v1", ALL_PROXY=value).url.startswith("socks5")
    return
  with pytest.raises(BadInput, match=r"^ALL_PROXY=.*needs the package socksio") as caught:
    proxy("http://h/v1", ALL_PROXY=value)
  assert "hunter2" not in str(caught.value)
