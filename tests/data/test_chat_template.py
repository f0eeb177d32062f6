"""The model's chat template: arguments, dropped turns, the clock, templates that never end."""

import datetime
import logging
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gtalign_jax import config
from gtalign_jax.data import chat_template, prompts
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import Table
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.sections import DataConfig

WIDE = DataConfig(max_prompt_tokens=4000)
ASK = [{"role": "user", "content": "What is 2+2?"}]
TURNS = [*ASK, {"role": "assistant", "content": "Four."}, {"role": "user", "content": "And 3+3?"}]
CHATML = tokenizers.CHATML
THINK = CHATML + (
  "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
LOOP = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + message['content'] }}{% endfor %}"


def with_template(source):
  made = tokenizers.tiny()
  made.chat_template = source
  return made


def encoded(source, messages=ASK, **data):
  record = Record("its-id", "mine", messages, "t", {})
  changes = {"max_prompt_tokens": 4000, "root": "x"} | data
  made = with_template(source)
  return made.decode(prompts.encode([record], made, DataConfig(**changes)).ids[0])


def test_arguments_reach_the_template():
  assert "<think>" not in encoded(THINK)
  text = encoded(THINK, template_arguments=Table({"enable_thinking": False}))
  assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
  ("source", "arguments", "says"),
  [
    (
      THINK,
      {"enable_thinking": True},
      "enable_thinking=True changes nothing .* reads enable_thinking",
    ),
    (THINK, {"enable_thinking": False, "thinking": 1}, "thinking=1 changes nothing"),
    (CHATML, {"enable_thinking": False}, "changes nothing .* it reads no arguments; leave it out"),
  ],
)
def test_an_argument_without_effect_is_refused(source, arguments, says):
  with pytest.raises(BadInput, match=rf"^data\.template_arguments: .*{says}"):
    encoded(source, template_arguments=Table(arguments))


@pytest.mark.parametrize(
  ("value", "says"),
  [
    ({"messages": "x"}, "'messages' is no name"),
    ({"a b": 1}, "'a b' is no name"),
    ({1: 1}, "expected a table from names to texts, numbers, true or false"),
    ({"a": [1]}, "expected a table"),
    ({"a": None}, "expected a table"),
  ],
)
def test_arguments_that_none_can_take(value, says):
  with pytest.raises(BadInput, match=says):
    DataConfig(template_arguments=Table(value))


@pytest.mark.parametrize("text", ['{"enable_thinking": false}', "{'enable_thinking': False}"])
def test_arguments_on_the_command_line_are_identity(text):
  plain = config.Config()
  changed = config.override(plain, [f"data.template_arguments={text}"])
  assert changed.data.template_arguments == {"enable_thinking": False}
  assert config.identity(changed) != config.identity(plain)
  assert config.differences(config.as_dict(plain), changed)


DROPS = LOOP.replace("{{", "{% if message['role'] != 'ROLE' %}{{").replace("}}", "}}{% endif %}")
LAST = "{{ '<|im_start|>' + messages[-1]['content'] }}"


@pytest.mark.parametrize(
  "source",
  [DROPS.replace("ROLE", "system"), "{{ raise_exception('no system role') }}" + LOOP, LAST, LOOP],
)
def test_instructions_come_out_whatever_the_template_does_with_system_turns(source, caplog):
  if source.startswith("{{ raise"):
    source = "{% if messages[0]['role'] == 'system' %}" + source.replace("}}", "}}{% endif %}", 1)
  chat_template._tried.cache_clear()
  with caplog.at_level(logging.INFO):
    for _ in range(2):
      text = encoded(source)
      assert prompts.template_text("compact") in text and "What is 2+2?" in text
  said = [line for line in caplog.messages if "instructions go into the user's turn" in line]
  assert len(said) == (source != LOOP)


@pytest.mark.parametrize(
  ("source", "says"),
  [
    (DROPS.replace("ROLE", "assistant"), "drops the turn of the assistant"),
    (DROPS.replace("ROLE", "user"), "drops the turn of the user"),
    (LAST, "drops the turn of the user"),
    ("{{ raise_exception('roles must\n alternate') }}", "refuses it: roles must"),
    ("{{ messages[0].content.no.such }}", "refuses it: 'str object' has no attribute"),
    ("{{ 1 / 0 }}", "refuses it: ZeroDivisionError"),
    ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "refuses it: RecursionError"),
  ],
)
def test_a_dropped_or_refused_turn_names_the_prompt(source, says):
  with pytest.raises(
    BadInput, match="prompt 'its-id': a chat of the turns user, assistant, user"
  ) as e:
    encoded(source, TURNS, template="released")
  assert says in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(
  "source", ["{% for", "{{ x | nosuch }}", "{{ " + "(" * 5000, "{% import 'x' %}"]
)
def test_a_broken_template_is_one_line(source):
  with pytest.raises(BadInput, match="the model's chat template"):
    encoded(source)
  with pytest.raises(BadInput, match="the model has no chat template"):
    encoded(None)


@pytest.mark.parametrize(
  "source",
  [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}" + CHATML,
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{{ 'x'.ljust(99999999999) }}",
  ],
  ids=["loops", "macros", "doubling", "memory"],
)
def test_a_template_that_does_not_end_is_one_line(monkeypatch, source):
  monkeypatch.setattr(chat_template, "_TRIAL", chat_template._TRIAL.replace("(5, 5 + 1)", "(1, 2)"))
  start = time.monotonic()
  with pytest.raises(BadInput, match="chat template does not end within 5 s and 1 GiB"):
    encoded(source)
  assert time.monotonic() - start < 30


CLOCKS = [
  "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}" + LOOP,
  "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}{{ '26 Jul 2024' }}{% endif %}" + LOOP,
]  # fmt: skip


@pytest.mark.parametrize("source", CLOCKS)
def test_prompts_are_the_same_on_every_day(monkeypatch, source):
  """With transformers' own clock set to two days, which its rendering shows and ours must not."""
  from transformers.utils import chat_template_utils

  texts, theirs = set(), set()
  for day in (datetime.datetime(2025, 1, 1), datetime.datetime(2031, 12, 31, 23, 59)):

    class Frozen(datetime.datetime):
      @classmethod
      def now(cls, tz=None, day=day):
        return day

    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
    monkeypatch.setattr(datetime, "datetime", Frozen)
    chat_template._tried.cache_clear()
    theirs.add(with_template(source).apply_chat_template(ASK, tokenize=False))
    texts.add(encoded(source))
  assert len(theirs) == 2 and len(texts) == 1
  assert "2024" in texts.pop()


@pytest.mark.parametrize("source", ["{{ ['a', 'b'] | random }}", "{{ lipsum(n=1) }}"])
def test_chance_is_refused(source):
  with pytest.raises(BadInput, match="the model's chat template"):
    encoded(source + LOOP)


GENERATION = LOOP.replace("{{", "{% generation %}{% set x = 1 %}{{").replace(
  "}}", "}}{% endgeneration %}"
)
LLAMA3 = (
  "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = "
  "messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set "
  'system_message = "" %}\n{%- endif %}\n{{- "<|im_start|>system\\n" + system_message }}\n{%- for '
  "message in messages %}{% if loop.index0 > 90 %}{% break %}{% endif %}\n{{ message | tojson }}{{ "
  "message.content | trim }}{{ '\\n' if loop.last }}\n{%- endfor %}{{ tools is none }}{{ dict(a=1).a }}"
)


@pytest.mark.parametrize("source", [CHATML, THINK, LOOP, GENERATION, LLAMA3])
@pytest.mark.parametrize("turns", [ASK, TURNS, [{"role": "system", "content": "S é\n "}, *TURNS]])
def test_rendering_is_that_of_transformers(source, turns):
  made = with_template(source)
  ours = chat_template.of(made, {}).render(turns)
  assert ours == made.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def test_the_trial_runs_from_any_folder(tmp_path):
  """What lies in the current folder is not imported by the trial's process."""
  (tmp_path / "json.py").write_text("raise SystemExit(1)")
  code = "from gtalign_jax.data import chat_template as c; c._try_out('x', {}); print('fine')"
  root = os.path.dirname(os.path.dirname(os.path.dirname(chat_template.__file__)))
  env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
  code = f"import sys; sys.path.insert(0, {root!r}); {code}"
  done = subprocess.run(
    [sys.executable, "-P", "-c", code], cwd=tmp_path, env=env,
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout == "fine\n", done.stderr


def test_ids_are_int32():
  made = with_template(CHATML)
  assert prompts.encode([Record("i", "m", ASK, None, {})], made, WIDE).ids[0].dtype == np.int32


def test_templates_and_arguments_that_utf8_cannot_carry():
  assert encoded("\ud83d" + CHATML).startswith("\ufffd<|im_start|>")
  source = CHATML + "{{ name if name is defined }}"
  assert encoded(source, template_arguments=Table({"name": "a\ud83d"})).endswith("a\ufffd")
