"""The openai client against a server: chat, streams, the game, errors, and clients that go away."""

import contextlib
import json
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import openai
import pytest
from sampler_cases import engine, policy
from scripted import encode, opening, rest, tenths, tokenizer
from serving import OPTIONS, ScriptedLanes, model, serving

from gtalign_jax import users
from gtalign_jax.cli.main import main
from gtalign_jax.endpoint_sections import JudgeConfig, UserConfig
from gtalign_jax.errors import RunFailure
from gtalign_jax.game import payoff, pricing
from gtalign_jax.parallel import sharding
from gtalign_jax.rewards import chain, judges
from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rollout import edit
from gtalign_jax.rollout.lanes import Lanes
from gtalign_jax.types import CELLS
from gtalign_jax.users.base import Said, Talk

HELLO = [{"role": "user", "content": "number 7: hello, 日本 🎉"}]
SAID = "Which number do you mean?"


def client(url, key="none"):
  return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60)


def ask(url, messages=HELLO, name="tiny", key="none", extra=None, **options):
  made = client(url, key)
  return made.chat.completions.create(model=name, messages=messages, extra_body=extra, **options)


def streamed(url, **options):
  """(content of each choice, chunks) of a stream."""
  chunks = list(ask(url, stream=True, **options))
  said = {}
  for chunk in chunks:
    for choice in chunk.choices:
      said[choice.index] = said.get(choice.index, "") + (choice.delta.content or "")
  return said, chunks


def raw(url, body, path="/v1/chat/completions", method="POST", headers=()):
  """(status, headers, JSON) of a request by hand."""
  import http.client

  host, port = url.removeprefix("http://").split(":")
  connection = http.client.HTTPConnection(host, int(port), timeout=60)
  connection.request(method, path, body, dict(headers))
  response = connection.getresponse()
  text = response.read()
  connection.close()
  return response.status, dict(response.getheaders()), json.loads(text)


# ---------------------------------------------------------------- real lanes


@pytest.fixture(scope="module")
def tiny():
  """A server of the tiny model: three lanes of at most 24 new tokens."""
  made = engine(eos=(2,), slots=3, segment=4, group_size=1, buckets=(64, 96), budget=24)
  key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
  lanes = Lanes(made, policy().params, key)
  with serving(lanes, model(longest=72, budget=24)) as (url, _):
    yield url


def test_a_chat_is_whole_streamed_and_repeatable(tiny):
  whole = ask(tiny, seed=5, max_tokens=20, logprobs=True)
  (choice,) = whole.choices
  assert choice.finish_reason == "length" and choice.message.content
  assert whole.usage.completion_tokens == 20
  assert whole.usage.prompt_tokens == len(prompt_ids())
  said, chunks = streamed(
    tiny, seed=5, max_tokens=20, logprobs=True, stream_options={"include_usage": True}
  )
  assert said == {0: choice.message.content}
  assert chunks[-1].usage == whole.usage and not chunks[-1].choices
  entries = [each for c in chunks if c.choices and c.choices[0].logprobs
             for each in c.choices[0].logprobs.content]  # fmt: skip
  assert [e.bytes for e in entries] == [e.bytes for e in choice.logprobs.content]
  assert [e.logprob for e in entries] == pytest.approx(
    [e.logprob for e in choice.logprobs.content], abs=1e-5
  )
  # bytes, not texts: a token may hold a part of a character
  assert b"".join(bytes(e.bytes) for e in entries).decode(errors="replace") == said[0]
  assert ask(tiny, seed=6, max_tokens=20).choices[0].message.content != said[0]


def prompt_ids():
  text = tokenizer().apply_chat_template(HELLO, tokenize=False, add_generation_prompt=True)
  return tokenizer().encode(text, add_special_tokens=False)


def test_log_probabilities_are_the_models(tiny):
  answer = ask(tiny, temperature=0, max_tokens=12, logprobs=True, extra={"top_k": 5})
  entries = answer.choices[0].logprobs.content
  pieces = model().pieces
  ids = [pieces.index(bytes(each.bytes)) for each in entries]
  tokens = jnp.asarray([[*prompt_ids(), *ids]])
  logp = jax.nn.log_softmax(policy().logits(tokens)[0, len(prompt_ids()) - 1 : -1])
  assert ids == np.argmax(logp, -1)[: len(ids)].tolist()
  np.testing.assert_allclose([e.logprob for e in entries], np.max(logp, -1)[: len(ids)], atol=1e-4)


def test_choices_differ_and_do_not_depend_on_who_is_beside_them(tiny):
  three = [c.message.content for c in ask(tiny, seed=5, n=3, max_tokens=20).choices]
  assert len(set(three)) == 3
  with ThreadPoolExecutor(5) as pool:
    others = [pool.submit(ask, tiny, temperature=1.5, max_tokens=24, n=1) for _ in range(4)]
    again = pool.submit(ask, tiny, seed=5, max_tokens=20).result()
    assert all(each.result().choices[0].finish_reason for each in others)
  assert again.choices[0].message.content == three[0]


def test_a_stop_string_cuts_the_text(tiny):
  whole = ask(tiny, seed=5, max_tokens=20).choices[0].message.content
  stop = whole[6:8]
  cut = ask(tiny, seed=5, max_tokens=20, stop=[stop]).choices[0]
  assert cut.message.content == whole[: whole.index(stop)] and cut.finish_reason == "stop"
  assert streamed(tiny, seed=5, max_tokens=20, stop=stop)[0][0] == cut.message.content


@pytest.mark.parametrize("changes", [{"messages": [{"role": "user", "content": "x " * 90}]},
                                     {"max_tokens": 25}], ids=["messages", "max_tokens"])  # fmt: skip
def test_what_fits_no_lane_is_said(tiny, changes):
  with pytest.raises(openai.APIStatusError) as caught:
    ask(tiny, **changes)
  assert caught.value.status_code == 413 and caught.value.code == "context_length_exceeded"
  assert caught.value.param == next(iter(changes))


def test_a_crowd_with_some_that_leave_and_some_that_err(tiny):
  """No lane is stuck and no answer lost; what went wrong is counted."""
  rng = random.Random(0)
  kinds = [rng.choices(("whole", "stream", "leave", "broken"), (5, 3, 2, 1))[0] for _ in range(40)]

  def one(kind):
    try:
      if kind == "broken":
        return raw(tiny, b'{"model": "tiny"')[0]
      options = {"max_tokens": rng.randint(1, 24), "temperature": rng.choice((0, 1, 2))}
      if kind == "whole":
        return ask(tiny, **options).usage.completion_tokens > 0
      if kind == "stream":
        return streamed(tiny, **options)[1][-1].choices[0].finish_reason in ("stop", "length")
      stream = ask(tiny, stream=True, max_tokens=24)
      next(iter(stream))
      stream.close()
      return True
    except openai.RateLimitError as error:
      return int(error.response.headers["Retry-After"]) >= 1

  with ThreadPoolExecutor(6) as pool:
    done = list(pool.map(one, kinds))
  assert done == [400 if kind == "broken" else True for kind in kinds]
  assert idle(tiny)


def metric(url, name):
  import urllib.request

  with urllib.request.urlopen(f"{url}/metrics") as page:
    lines = page.read().decode().splitlines()
  return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def idle(url, seconds=10):
  """Whether all lanes become free."""
  until = time.monotonic() + seconds
  while time.monotonic() < until:
    if not metric(url, "gtalign_lanes_busy") and not metric(url, "gtalign_queue_waiting"):
      return True
    time.sleep(0.02)
  return False


# ---------------------------------------------------------------- the game


def write(ids, number):
  """A chain that names what the rule chooses on its own matrix, whoever wrote that."""
  text = tokenizer().decode(ids)
  begun = text.endswith(edit.STOP)
  head = "" if begun else opening(MATRIX)
  whole = text[text.rindex("<thinking>") :] if begun else head
  cell = int(payoff.choose(chain.parse(whole + edit.REST).payoff, 0))
  return encode(head + rest(cell, "Therefore") + ("\n" if number % 2 else ""))


MATRIX = tenths(0)
MATRIX[0] = [[40, 40], [35, 30], [20, 20]]  # answering, unless the user pays for 300 tokens


@pytest.fixture(scope="module")
def played():
  """Edits go on in another lane: this one has ended when they come."""
  with serving(ScriptedLanes(write), model()) as (url, _):
    yield url


def test_an_edit_goes_on_in_its_lane():
  lanes = ScriptedLanes(write, segment_s=0.01)
  with serving(lanes, model()) as (url, _):
    for _ in range(20):  # on a machine that is busy, a row may have ended when its edit comes
      answer = ask(url, extra={"pricing": "pay_per_token"})
      assert answer.choices[0].message.content == SAID
      if lanes.amended:
        return
  raise AssertionError("no edit went on in its lane")


def test_the_response_alone_is_the_content(played):
  answer = ask(played).choices[0]
  assert answer.message.content.startswith("The answer is 2") and answer.finish_reason == "stop"
  assert not hasattr(answer.message, "game")
  said, chunks = streamed(played)
  assert said == {0: answer.message.content} and len(chunks) > 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_price_changes_the_chain_from_the_payoffs_on(played, stream):
  extra = {"game": True, "pricing": "pay_per_token"}
  if stream:
    said, chunks = streamed(played, extra=extra)
    content, game = said[0], [c.choices[0].delta.game for c in chunks
                              if hasattr(c.choices[0].delta, "game")][-1]  # fmt: skip
  else:
    message = ask(played, extra=extra).choices[0].message
    content, game = message.content, message.game
  assert content == SAID
  wanted = pricing.apply(pricing.PRESETS["pay_per_token"], MATRIX / 10)
  assert game["payoff"]["DQ_DA"] == {"LLM": 4.0, "user": 4.0}
  assert list(game["edited"]) == list(CELLS)
  assert [list(pair.values()) for pair in game["edited"].values()] == wanted.reshape(6, 2).tolist()
  assert (game["choice"], game["named"], game["user_type"]) == ("DQ_CQ", "DQ_CQ", "DQ")
  assert game["parse_error"] is None and game["pricing"] == "pay_per_token"
  assert game["thinking"] == "So it is DQ." and game["analyze"] == "Therefore DQ_CQ."


def test_an_edit_stays_within_the_budget(played):
  answer = ask(played, max_tokens=len(encode(opening(MATRIX))) + 40, extra={"pricing": "free"})
  assert answer.choices[0].finish_reason == "length"
  assert answer.usage.completion_tokens == len(encode(opening(MATRIX))) + 40


def test_what_is_no_chain_is_served_as_text():
  lanes = ScriptedLanes(lambda ids, number: encode("Just a text, 日本."))
  with serving(lanes, model()) as (url, _):
    message = ask(url, extra={"game": True, "pricing": "free"}).choices[0].message
  assert message.content == "Just a text, 日本."
  assert message.game["parse_error"] and message.game["payoff"] is None


def test_judge_and_user_of_another_run():
  """Their questions come with no instructions of ours, and the response alone is their answer."""

  def answer(ids, number):
    text = tokenizer().decode(ids)
    said = f"VERDICT: {int('It is 4.' in text)}" if "Right?" in text else "For 4."
    return encode(f"{opening(MATRIX)}<analyze>DQ_DA</analyze><response>{said}</response>")

  asked = [
    Question(str(n), "math", "2+2?", "4", f"It is {n}.", BINARY, "{asked} {response} Right?")
    for n in (3, 4, 5)
  ]
  with serving(ScriptedLanes(answer), model(longest=4000), OPTIONS._replace(queue=99)) as (url, _):
    at = {"kind": "http", "base_url": f"{url}/v1", "model": "tiny"}
    with contextlib.closing(judges.make(JudgeConfig(**at), None)) as judge:
      assert judge.judge(asked) == [0.0, 1.0, 0.0]
    with contextlib.closing(users.connect(UserConfig(**at), None)) as user:
      said = [*HELLO, {"role": "assistant", "content": "For how many people?"}]
      assert user.replies([Talk("q", "concierge", None, said, 1)]) == [Said("For 4.")]


def test_a_chain_without_payoffs_has_no_price():
  lanes = ScriptedLanes(lambda ids, number: encode("<thinking>t</thinking><response>r</response>"))
  with serving(lanes, model(form="think")) as (url, _):
    message = ask(url, extra={"game": True}).choices[0].message
    assert message.content == "r"
    assert (message.game["thinking"], message.game["parse_error"]) == ("t", None)
    with pytest.raises(openai.BadRequestError) as caught:
      ask(url, extra={"pricing": "free"})
    assert caught.value.param == "pricing"


# ---------------------------------------------------------------- errors, and the end


def test_errors_have_codes(played):
  with pytest.raises(openai.NotFoundError) as caught:
    ask(played, name="other")
  assert caught.value.code == "model_not_found" and caught.value.param == "model"
  with pytest.raises(openai.BadRequestError) as caught:
    ask(played, temperature=9)
  assert caught.value.param == "temperature" and caught.value.type == "invalid_request_error"
  assert raw(played, b"x" * (1 << 21))[0] == 413
  assert raw(played, None, "/v1/nothing", "GET")[::2] == (
    404, {"error": {"message": "GET /v1/nothing: Not Found", "type": "not_found_error",
                    "param": None, "code": None}})  # fmt: skip
  assert raw(played, None, method="GET")[0] == 405
  status, _, said = raw(played, b'{"seed": NaN}')
  assert status == 400 and "NaN" in said["error"]["message"]


def test_keys_and_origins():
  options = OPTIONS._replace(origins=("https://a.b",))
  with serving(ScriptedLanes(write), model(), options, "secret") as (url, _):
    assert ask(url, key="secret").choices
    for key in ("wrong", "secré"):
      status, headers, said = raw(url, b"{}", headers={"Authorization": f"Bearer {key}".encode()})
      assert status == 401 and "secret" not in json.dumps(said)
    assert raw(url, None, "/health", "GET")[2] == {"status": "ok"}
    headers = raw(url, b"{}", headers={"Origin": "https://a.b"})[1]
    assert headers["access-control-allow-origin"] == "https://a.b"
    assert "access-control-allow-origin" not in raw(url, b"{}", headers={"Origin": "https://c"})[1]


def test_a_full_queue_says_when_to_come_again():
  lanes = ScriptedLanes(write, count=1)
  lanes.gate.clear()
  with (
    serving(lanes, model(), OPTIONS._replace(queue=1)) as (url, _),
    ThreadPoolExecutor(2) as pool,
  ):
    first = [pool.submit(ask, url)]
    while metric(url, "gtalign_lanes_busy") < 1:
      time.sleep(0.01)
    first.append(pool.submit(ask, url))
    while metric(url, "gtalign_queue_waiting") < 1:
      time.sleep(0.01)
    with pytest.raises(openai.RateLimitError) as caught:
      ask(url)
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    lanes.gate.set()
    assert all(each.result().choices for each in first)
    assert metric(url, 'gtalign_requests_total{code="429"}') == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_frees_its_lane(stream):
  lanes = ScriptedLanes(lambda ids, number: encode("word " * 150), count=1)
  lanes.gate.clear()
  with serving(lanes, model()) as (url, _):
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"model": "tiny", "messages": HELLO, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port))) as connection:
      connection.sendall(head.encode() + body)
      while metric(url, "gtalign_lanes_busy") < 1:
        time.sleep(0.01)
    time.sleep(0.1)
    lanes.gate.set()
    assert idle(url)
    assert metric(url, 'gtalign_tokens_total{kind="completion"}') < 100  # of 750


def test_the_end_waits_for_what_has_begun():
  lanes = ScriptedLanes(write, count=1)
  lanes.gate.clear()
  with ThreadPoolExecutor(1) as pool:
    with serving(lanes, model()) as (url, service):
      running = pool.submit(ask, url)
      while metric(url, "gtalign_lanes_busy") < 1:
        time.sleep(0.01)
      service.closing = True  # as a signal does
      with pytest.raises(openai.InternalServerError) as caught:
        ask(url)
      assert caught.value.status_code == 503 and caught.value.code == "shutting_down"
      assert raw(url, None, "/health", "GET")[0] == 503
      threading.Timer(0.1, lanes.gate.set).start()
    assert running.result().choices[0].finish_reason == "stop"


def test_a_failed_device_ends_the_server():
  def fail(ids, number):
    raise MemoryError("no room on the device")

  ended = pytest.raises(RunFailure, match="no room on the device")
  with ended, serving(ScriptedLanes(fail), model()) as (url, _):
    with pytest.raises(openai.InternalServerError) as caught:
      ask(url)
    assert caught.value.code == "device"


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
  ("flags", "code", "said"),
  [
    (["--port", "70000"], 2, "--port=70000"),
    (["--cors", "a.b"], 2, "--cors 'a.b'"),
    (["--pricing", "fre"], 2, "did you mean free"),
    (["--pricing", "free", "--form", "think"], 2, "--form=think hold no payoffs"),
    (["--api-key-env", "NOT_SET_ANYWHERE"], 2, "NOT_SET_ANYWHERE"),
    (["--max-rows", "0"], 2, "--max-rows=0"),
    (["--host", "no.such.host.invalid"], 1, "cannot serve at no.such.host.invalid"),
  ],
)
def test_bad_flags_are_one_line(capsys, flags, code, said):
  assert main(["serve", "--model", "random:tiny", *flags]) == code
  assert said in capsys.readouterr().err


def test_a_taken_port_is_one_line(capsys):
  with socket.create_server(("127.0.0.1", 0)) as taken:
    port = taken.getsockname()[1]
    assert main(["serve", "--model", "random:tiny", "--port", str(port)]) == 1
  said = capsys.readouterr().err
  assert f"port {port}" in said and said.count("\n") == 1
