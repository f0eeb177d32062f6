"""`gtalign serve` against the rollout of `gtalign bench` on the same work, and under a hostile crowd (docs/serving.md).

  python benchmarks/serving.py [MODEL] [rate] [crowd]

rate: 96 requests of 128 new tokens, 32 at a time, against 8 prompts x 4 samples of `gtalign bench`, in turns; and
the time to the first token of a lone request while 31 others run, in segments of 8 tokens. crowd: 200 requests, 16
at a time, of which 5 % are malformed and a third go away. Prints one JSON line.
"""

import itertools
import json
import random
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ROWS, PROMPT, NEW, SEGMENT = 32, 96, 128, 8
TEXT = "Tell a long story of a ship that sails around the world and never lands anywhere. "
GTALIGN = [sys.executable, "-m", "gtalign_jax"]


class Server:
  """A server of the model; its address, and what it measures of itself."""

  def __enter__(self):
    flags = ["--max-rows", str(ROWS), "--max-prompt-tokens", "128", "--max-new-tokens", str(NEW)]
    self.process = subprocess.Popen(
      [*GTALIGN, "serve", "--model", self.model, "--port", "0", "--template", "released", *flags],
      stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
    self.client = openai.OpenAI(
      base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=900
    )
    self.name = self.client.models.list().data[0].id
    return self

  def __init__(self, model):
    self.model = model

  def __exit__(self, *_):
    self.process.terminate()
    self.code = self.process.wait()

  def ask(self, **options):
    # bytes are tokens to the tiny model
    messages = [{"role": "user", "content": TEXT * (1 if "tiny" in self.model else 4)}]
    return self.client.chat.completions.create(
      model=self.name, messages=messages, max_tokens=NEW, **options
    )

  def metric(self, name):
    lines = urllib.request.urlopen(f"{self.url}/metrics").read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

  def rss_mib(self):
    status = Path(f"/proc/{self.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def rate(server):
  """Tokens per second of 96 requests, 32 at a time."""
  began = time.perf_counter()
  with ThreadPoolExecutor(ROWS) as pool:
    answers = list(pool.map(lambda seed: server.ask(seed=seed), range(3 * ROWS)))
  tokens = sum(answer.usage.completion_tokens for answer in answers)
  return tokens / (time.perf_counter() - began)


def first_token(server):
  """Segments from a request to its first token, beside 31 others, ten times: (median, largest)."""
  done = threading.Event()

  def keep_busy(seed):
    while not done.is_set():
      server.ask(seed=seed)

  waits, gaps = [], []
  with ThreadPoolExecutor(ROWS) as pool:
    for seed in range(ROWS - 2):
      pool.submit(keep_busy, seed)
    time.sleep(5)
    for seed in range(10):
      began, times = time.perf_counter(), []
      for chunk in server.ask(seed=1000 + seed, stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
          times.append(time.perf_counter())
      waits.append(times[0] - began)
      gaps += [
        b - a for a, b in itertools.pairwise(times) if b - a > 0.005
      ]  # chunks of one segment come at once
    done.set()
  segment = sorted(gaps)[len(gaps) // 2]
  waits = sorted(wait / segment for wait in waits)
  return {
    "segment_s": segment,
    "first_token_segments": waits[5],
    "first_token_segments_most": waits[-1],
  }


def bench(model):
  flags = [
    "--prompts",
    "8",
    "--group-size",
    "4",
    "--prompt-tokens",
    str(PROMPT),
    "--new-tokens",
    str(NEW),
  ]
  done = subprocess.run(
    [*GTALIGN, "bench", "--model", model, *flags, "--repeats", "1", "--json"],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])["rollout_tokens_per_s"]


def crowd(server, count=200, at_once=16):
  """What became of requests of which some are broken and some go away."""
  rng = random.Random(0)
  kinds = [
    rng.choices(("whole", "stream", "leave", "broken"), (40, 22, 33, 5))[0] for _ in range(count)
  ]

  def one(kind):
    try:
      if kind == "broken":
        urllib.request.urlopen(f"{server.url}/v1/chat/completions", b'{"model": ')
      elif kind == "whole":
        return kind if server.ask(n=rng.choice((1, 1, 2))).choices[0].finish_reason else "lost"
      elif kind == "stream":
        last = [chunk.choices[0].finish_reason for chunk in server.ask(stream=True)][-1]
        return kind if last else "lost"
      else:
        stream = server.ask(stream=True)
        for _ in range(rng.randint(0, 4)):
          next(iter(stream))
        stream.close()
        return kind
    except urllib.error.HTTPError as error:
      return f"{kind} {error.code}"
    except openai.APIStatusError as error:
      return f"{kind} {error.status_code}"
    return "lost"

  before = server.rss_mib()
  with ThreadPoolExecutor(at_once) as pool:
    ends = list(pool.map(one, kinds))
  time.sleep(10)
  lanes = server.metric("gtalign_lanes_busy") + server.metric("gtalign_queue_waiting")
  return {
    "ends": {end: ends.count(end) for end in sorted(set(ends))}, "stuck": lanes,
    "rss_mib": [before, server.rss_mib()],
  }  # fmt: skip


def main(model=MODEL, *parts):
  parts, found = parts or ("rate", "crowd"), {"model": model}
  with Server(model) as server:
    server.ask()
    if "rate" in parts:
      found["serve_tokens_per_s"] = [rate(server)]
      found |= first_token(server)
    if "crowd" in parts:
      found["crowd"] = crowd(server)
  found["exit"] = server.code
  if "rate" in parts:
    found["bench_tokens_per_s"] = [bench(model) for _ in range(2)]
    with Server(model) as server:
      found["serve_tokens_per_s"].append(rate(server))
    best = [max(found[f"{who}_tokens_per_s"]) for who in ("serve", "bench")]
    found["ratio"] = best[0] / best[1]
  print(json.dumps(found))


if __name__ == "__main__":
  main(*sys.argv[1:])
