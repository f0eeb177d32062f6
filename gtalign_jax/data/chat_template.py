"""The model's chat template: a program of others, rendered within limits and on a fixed day.

`of` finds out, once a template, what would otherwise show in no number: that it never ends, drops a
turn, or does not know the arguments it is given.
"""

import datetime
import functools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import ext, meta, nodes, sandbox

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.sections import TEMPLATE_GIVEN

log = logging.getLogger(__name__)
Chat = Sequence[Mapping[str, str]]

# The day of every rendering: a prompt that holds today's date is another one tomorrow, when the run
# resumes. Llama's templates name this day themselves where they know no clock.
TODAY = datetime.datetime(2024, 7, 26)
_SURROGATES = re.compile("[\ud800-\udfff]")
# chats that every template is tried on, as their roles
SHAPES = (("system", "user"), ("user",), ("user", "assistant", "user"))
OUT_OF_MEMORY = 3  # exit code of a trial
TRIAL_CPU_S, TRIAL_WALL_S, TRIAL_BYTES = 5, 300, 2**30
# in a process of its own: of a loop in a template, or of memory that it takes, only that can be rid
_TRIAL = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, ({TRIAL_CPU_S}, {TRIAL_CPU_S} + 1))
try:
  resource.setrlimit(resource.RLIMIT_AS, ({TRIAL_BYTES}, {TRIAL_BYTES}))
except (OSError, ValueError):
  pass  # macOS has no such limit
from gtalign_jax.data.chat_template import SHAPES, ChatTemplate, probe
given = json.load(sys.stdin)
for shape in SHAPES:
  try:
    template = ChatTemplate(*given)
    template.text(probe(shape))
  except MemoryError:
    sys.exit({OUT_OF_MEMORY})
  except Exception:
    pass  # an error is the caller's to report
"""


class ChatTemplate:
  """A template with the variables it is rendered with. Raises BadInput where it cannot be read."""

  def __init__(self, source: str, variables: Mapping[str, Any]):
    self.source, self._variables = source, dict(variables)
    self._fold: dict[tuple[str, ...], bool] = {}
    try:
      self._compiled = _environment().from_string(source)
    except MemoryError:  # for the trial
      raise
    except Exception as error:  # deep nesting ends in errors of Python's own
      raise BadInput(f"the model's chat template cannot be read: {_reason(error)}") from error

  def render(self, chat: Chat, name: str = "") -> str:
    """The text of `chat` with the opening of the assistant's turn.

    System turns are joined to the first user turn where the template has no place for them. name:
    of the record, for the message. Raises BadInput where the template refuses or drops a turn.
    """
    shape = tuple(message["role"] for message in chat)
    where = f"prompt {name!r}: " if name else ""
    if shape not in self._fold:  # found out once: a trial costs two renderings
      self._fold[shape] = self._must_fold(shape, where)
    try:
      return self.text(_folded(chat) if self._fold[shape] else chat)
    except Exception as error:
      raise BadInput(f"{where}the model's chat template fails: {_reason(error)}") from error

  def said(self, shape: Sequence[str]) -> tuple[str, str]:
    """(text of a chat of these roles, "" or the reason why the template refuses it)."""
    try:
      return self.text(probe(shape)), ""
    except Exception as error:
      return "", _reason(error)

  def fault(self, shape: Sequence[str]) -> str:
    """What the template does wrong with a chat of these roles; "" where every turn comes out."""
    text, reason = self.said(shape)
    dropped = [message["role"] for message in probe(shape) if message["content"] not in text]
    if reason:
      return f"refuses it: {reason}"
    return f"drops the turn of the {dropped[0]}" if dropped else ""

  def _must_fold(self, shape: tuple[str, ...], where: str) -> bool:
    """Whether system turns of such chats go into the user's. BadInput where that does not help."""
    # tried, not looked up: some templates raise at a system turn (Gemma), others just leave it out
    fault = self.fault(shape)
    if not fault:
      return False
    rest = [role for role in shape if role != "system"]
    if len(rest) == len(shape) or self.fault(rest):
      raise BadInput(
        f"{where}a chat of the turns {', '.join(shape)}: the model's chat template {fault}; leave "
        "such prompts out, or mend chat_template"
      )
    log.info("the model's chat template %s: instructions go into the user's turn", fault)
    return True

  def text(self, chat: Chat) -> str:
    """`render` of a chat as it is; whatever the template raises."""
    fixed = {"tools": None, "documents": None, "add_generation_prompt": True}
    messages = [dict(message) for message in chat]
    text = self._compiled.render(self._variables | fixed, messages=messages)
    # JSON, of which templates and arguments come, can spell what UTF-8 cannot carry
    return _SURROGATES.sub("\ufffd", text)


def of(tokenizer: Any, arguments: Mapping[str, Any]) -> ChatTemplate:
  """The chat template of a tokenizer, tried. arguments: `data.template_arguments`.

  Raises BadInput where there is none, it does not end, or an argument changes nothing.
  """
  try:
    source = tokenizer.get_chat_template()
  except Exception as error:
    raise BadInput(f"the model has no chat template: {first_line(error)}") from error
  special = json.dumps(tokenizer.special_tokens_map, default=str)  # some are objects
  return _tried(source, special, json.dumps(arguments))


@functools.lru_cache(maxsize=8)  # prompts are encoded split by split
def _tried(source: str, special: str, arguments: str) -> ChatTemplate:
  known, given = json.loads(special), json.loads(arguments)
  _try_out(source, known)
  if given:
    _try_out(source, known | given)
  template = ChatTemplate(source, known | given)
  for name, value in given.items():
    others = {key: each for key, each in given.items() if key != name}
    without = ChatTemplate(source, known | others)
    if all(template.said(shape) == without.said(shape) for shape in SHAPES):
      environment = _environment()
      read = meta.find_undeclared_variables(environment.parse(source))
      read -= {*TEMPLATE_GIVEN, *environment.globals}  # what every template is given
      raise BadInput(
        f"data.template_arguments: {name}={value!r} changes nothing in what the model's chat "
        f"template writes; it reads {', '.join(sorted(read)) or 'no arguments'}; leave it out"
      )
  return template


def _try_out(source: str, variables: Mapping[str, Any]) -> None:
  """Raises BadInput where the template does not end, or takes more memory than any text needs."""
  places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
  found = os.pathsep.join(filter(None, places))  # an empty place would be the current folder
  command = [sys.executable, "-P", "-c", _TRIAL]  # -P: not what lies in the current folder
  given, environment = json.dumps([source, variables]).encode(), os.environ | {"PYTHONPATH": found}
  try:
    done = subprocess.run(
      command, input=given, env=environment, capture_output=True, timeout=TRIAL_WALL_S
    ).returncode
  except subprocess.TimeoutExpired:
    done = -1
  if done == OUT_OF_MEMORY or done < 0:  # killed; whatever else is the matter, the caller will see
    raise BadInput(
      f"the model's chat template does not end within {TRIAL_CPU_S} s and {TRIAL_BYTES >> 30} GiB "
      "of memory; mend chat_template in the model's folder"
    )


def probe(shape: Sequence[str]) -> list[dict[str, str]]:
  """A chat of these roles, each content a word that nothing else says."""
  return [{"role": role, "content": f"turn{n}of{role}"} for n, role in enumerate(shape)]


def _folded(chat: Chat) -> list[dict[str, str]]:
  """System texts joined to the first user turn."""
  system = [message["content"] for message in chat if message["role"] == "system"]
  first, *rest = (dict(message) for message in chat if message["role"] != "system")
  # joined, not dropped: the instructions are what makes the chain
  return [first | {"content": "\n\n".join([*system, first["content"]])}, *rest]


def _reason(error: BaseException) -> str:
  return first_line(error) if isinstance(error, jinja2.TemplateError) else repr(error)[:200]


class _Generation(ext.Extension):
  """{% generation %} marks the assistant's words for training; here it only opens a scope."""

  tags = {"generation"}  # noqa: RUF012 (jinja's own form)

  def parse(self, parser: Any) -> nodes.Node:
    line = next(parser.stream).lineno
    body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
    return nodes.Scope(body, lineno=line)


def _environment() -> sandbox.ImmutableSandboxedEnvironment:
  """Jinja as transformers sets it up for chat templates, but without clock and chance."""
  made = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, ext.loopcontrols]
  )

  def refuse(message: str) -> None:
    raise jinja2.TemplateError(message)

  made.filters["tojson"] = lambda value, **how: json.dumps(value, **{"ensure_ascii": False} | how)
  made.globals |= {"raise_exception": refuse, "strftime_now": TODAY.strftime}
  del made.filters["random"], made.globals["lipsum"]  # rows must be the same in every start
  return made
