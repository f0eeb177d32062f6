"""The sections of models that are asked: judge, simulated user and teacher (see sections.py)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from gtalign_jax import address
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import JsonTable, at_least, fraction, one_of, placed, positive, settle

JUDGES = ("rule", "http", "recorded")
USERS = ("rule", "http", "policy", "recorded")
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
# fields of a request that `extra_body` may not hold -> the key that sets them, "" where none does
OWN_FIELDS = {
  "model": "model", "temperature": "temperature", "max_tokens": "max_tokens",
  "max_completion_tokens": "max_tokens_key", "messages": "", "stream": "", "n": "",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
  """A model behind an OpenAI-compatible endpoint.

  Which model it is and how it samples is identity; where it is reached and how, is not.
  """

  SECTION: ClassVar[str]  # where the keys of a subclass stand

  model: str = ""  # model name sent to the endpoint
  base_url: str = placed("")  # OpenAI-compatible endpoint, e.g. http://localhost:8000/v1
  api_key_env: str = placed("OPENAI_API_KEY")  # environment variable that holds the key
  temperature: float | None = 0.0  # none = left out, for models that take only their own
  # tokens of a reply, none = the endpoint's limit; a reply that reaches it is never used
  max_tokens: int | None = placed(None)
  max_tokens_key: str = placed("max_tokens")  # TOKEN_LIMITS: what the endpoint calls it
  # more fields of each request, e.g. {"chat_template_kwargs": {"enable_thinking": false}}
  extra_body: JsonTable = field(default_factory=JsonTable)
  concurrency: int = placed(16)  # requests under way at once
  deadline_s: float = placed(60.0)  # one answer, all its retries included
  max_attempts: int = placed(4)  # tries per answer
  breaker_failures: int = placed(20)  # consecutive failures that open the circuit breaker
  breaker_cooldown_s: float = placed(10.0)  # pause before the breaker lets one call through

  def __post_init__(self):
    section = self.SECTION
    settle(section, self)
    at_least(section, self, 1, "concurrency", "max_attempts", "breaker_failures")
    at_least(section, self, 0, "breaker_cooldown_s")
    positive(section, self, "deadline_s")
    one_of(f"{section}.max_tokens_key", self.max_tokens_key, TOKEN_LIMITS)
    if self.temperature is not None:
      at_least(section, self, 0, "temperature")
    if self.max_tokens is not None:
      at_least(section, self, 1, "max_tokens")
    if self.base_url:
      address.parse(self.base_url, f"{section}.base_url", self.api_key_env)
    if not re.fullmatch(r"[A-Za-z_]\w*", self.api_key_env):
      # not shown: it may be the key itself
      raise BadInput(
        f"{section}.api_key_env must be the name of an environment variable, e.g. OPENAI_API_KEY; "
        "put the key into that variable"
      )
    for key in self.extra_body:
      if key in OWN_FIELDS:
        instead = OWN_FIELDS[key] and f" and use {section}.{OWN_FIELDS[key]}"
        raise BadInput(f"{section}.extra_body[{key!r}] is not for you to set; take it out{instead}")
    try:
      json.dumps(self.extra_body, allow_nan=False)
    except (TypeError, ValueError) as error:
      raise BadInput(f"{section}.extra_body={self.extra_body} is no JSON ({error})") from None


@dataclass(frozen=True, kw_only=True)
class AnswererConfig(EndpointConfig):
  """Who answers in the place of a person: rules, a model behind an endpoint (http), a log, …"""

  KINDS: ClassVar[tuple[str, ...]]  # what `kind` can be
  ANSWERS: ClassVar[str]  # what they are called
  CACHE: ClassVar[str]  # the file in the work directory that keeps them

  kind: str = "rule"  # KINDS
  # SQLite file of answers; "" = CACHE in the work directory, or beside the output
  cache: str = placed("")
  log: str = ""  # recorded: JSONL of answers to replay

  def __post_init__(self):
    super().__post_init__()
    section = self.SECTION
    one_of(f"{section}.kind", self.kind, self.KINDS)
    if self.kind == "http" and not (self.base_url and self.model):
      raise BadInput(
        f"{section}.kind='http' needs {section}.base_url and {section}.model; set both"
      )
    if "://" in self.cache:  # Path() would take it for a relative folder, one on each host
      raise BadInput(
        f"{section}.cache={self.cache!r} is no local path; name a file of this machine"
      )
    if self.kind == "recorded" and not self.log:
      raise BadInput(f"{section}.kind='recorded' needs {section}.log=FILE.jsonl")

  def cache_file(self, folder: Path | None) -> Path | None:
    """Where answers are kept; folder: for a config that names no file (None: they are not)."""
    return Path(self.cache) if self.cache else folder and folder / self.CACHE


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(AnswererConfig):
  """Who judges a response: rule | http | recorded."""

  SECTION: ClassVar[str] = "rewards.judge"
  KINDS: ClassVar[tuple[str, ...]] = JUDGES
  ANSWERS: ClassVar[str] = "verdicts"
  CACHE: ClassVar[str] = "judge_cache.sqlite"

  # a step, evaluation or score with a larger share of rows without verdict ends, unwritten
  max_invalid_frac: float = placed(0.5)

  def __post_init__(self):
    super().__post_init__()
    fraction(self.SECTION, self, "max_invalid_frac")


@dataclass(frozen=True, kw_only=True)
class UserConfig(AnswererConfig):
  """Who answers an assistant that asks: rule | http | policy | recorded (docs/users.md)."""

  SECTION: ClassVar[str] = "conversation.user"
  KINDS: ClassVar[tuple[str, ...]] = USERS
  ANSWERS: ClassVar[str] = "replies"
  CACHE: ClassVar[str] = "user_cache.sqlite"

  persona: str = ""  # http, policy: who the model plays, in sentences; "" = a plain person
  max_words: int = 200  # http, policy: words of a reply; the rest is cut off

  def __post_init__(self):
    super().__post_init__()
    at_least(self.SECTION, self, 1, "max_words")


@dataclass(frozen=True, kw_only=True)
class AssistantConfig(EndpointConfig):
  """A model that is evaluated in the place of a policy (`gtalign eval --endpoint`). Placement."""

  SECTION: ClassVar[str] = "endpoint"

  temperature: float | None = 1.0  # eval.temperature of a config file, unless it is set here
  max_tokens: int | None = 2048  # of a completion; rollout.max_new_tokens of a config file
  deadline_s: float = 300.0  # one completion, all its tries included

  def __post_init__(self):
    super().__post_init__()
    if bool(self.base_url) != bool(self.model):
      raise BadInput(
        "endpoint.base_url (--endpoint URL) and endpoint.model (--endpoint-model NAME) go "
        "together; give both, or none for a policy that is loaded"
      )


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(EndpointConfig):
  """A model that writes chains for the warm start (`gtalign synthesize`). Placement."""

  SECTION: ClassVar[str] = "teacher"

  temperature: float | None = 0.7  # above 0: of several replies one may be fit
  max_tokens: int | None = 2048  # a chain has about 300
  concurrency: int = 8  # requests under way at once
  deadline_s: float = 300.0  # one prompt, all its tries included
  max_attempts: int = 5  # tries per reply
  tries: int = 2  # replies per prompt until one is fit

  def __post_init__(self):
    super().__post_init__()
    at_least("teacher", self, 1, "tries")
    if bool(self.base_url) != bool(self.model):
      raise BadInput(
        "teacher.base_url (--teacher URL) and teacher.model (--model NAME) go together; give both, "
        "or none for chains from labels"
      )
