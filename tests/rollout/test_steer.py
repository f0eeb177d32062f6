"""Steering: the edit on ids and text, the choice that follows, and the command."""

import functools
import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import engine, policy
from scripted import POLICIES
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from gtalign_jax import models
from gtalign_jax.cli.main import main
from gtalign_jax.errors import RunFailure
from gtalign_jax.evaluate import steering_text
from gtalign_jax.game import pricing
from gtalign_jax.models.vocabulary import spell
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import sharding
from gtalign_jax.reward_section import RewardConfig
from gtalign_jax.rewards import chain
from gtalign_jax.rollout import edit, intervene, steer
from gtalign_jax.sections import MeshConfig
from gtalign_jax.types import CELLS

pytestmark = pytest.mark.usefixtures("shared_programs")
# A vague question would pay more, but thinking says DQ. Answering is best as written; a user who pays each of 300 tokens prefers the question (60 tokens).
MATRIX = ((4.0, 4.0), (3.5, 3.0), (2.0, 2.0), (1.0, 0.5), (5.0, 5.0), (2.0, 2.5))
PAID = pricing.PRESETS["pay_per_token"]


@functools.cache
def byte_level():
  return models.load("random:tiny").tokenizer


@functools.cache
def sentencepiece():
  """Writes a space before the first word and spells unknown characters in bytes, as Llama 2's does."""
  characters = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
  characters += [chr(code) for code in range(33, 127)] + ["▁{", '{"', "</", "><", "}}"]
  vocabulary = {token: index for index, token in enumerate(characters)}
  merges = [("▁", "{"), ("{", '"'), ("<", "/"), (">", "<"), ("}", "}")]
  made = Tokenizer(
    token_models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
  )
  made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
  made.decoder = decoders.Sequence([
    decoders.Replace("▁", " "),
    decoders.ByteFallback(),
    decoders.Fuse(),
    decoders.Strip(" ", 1, 0),
  ])  # fmt: skip
  return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


TOKENIZERS = {"byte_level": byte_level, "sentencepiece": sentencepiece}


def written(matrix=MATRIX, separators=(",", ":")):
  table = {cell: {"LLM": llm, "user": user} for cell, (llm, user) in zip(CELLS, matrix)}
  return json.dumps(table, separators=separators)


def opening_text(payoffs=None, thinking="A vague wish? No: DQ.", tail=""):
  return f"<thinking>{thinking}</thinking><payoff>{payoffs or written()}</payoff>{tail}"


def rest(cell, response):
  return f"<analyze>So it is {cell}.</analyze><response>{response}</response>"


def encode(tokenizer, text):
  return tokenizer.encode(text, add_special_tokens=False)


def array(matrix):
  return np.asarray(matrix, float).reshape(2, 3, 2)


def differing(a, b):
  """Lengths of the common start and the common end of two sequences, not overlapping."""
  most = min(len(a), len(b))
  start = next((i for i in range(most) if a[i] != b[i]), most)
  end = next((i for i in range(most - start) if a[-1 - i] != b[-1 - i]), most - start)
  return start, end


# ---------------------------------------------------------------- the edit

NUMBER = st.one_of(
  st.integers(-99, 99),
  st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)),
  st.sampled_from([1e-7, -2.5e8, 0.0, -0.0, 3.05]),
)
MATRICES = st.lists(st.tuples(NUMBER, NUMBER), min_size=6, max_size=6)


@settings(max_examples=60)
@given(MATRICES, st.permutations(range(6)), st.booleans(), st.sampled_from([None, 2]), st.data())
def test_rewriting_changes_the_numbers_alone(matrix, order, user_first, indent, data):
  roles = ("user", "LLM") if user_first else ("LLM", "user")
  pairs = {cell: dict(zip(("LLM", "user"), pair)) for cell, pair in zip(CELLS, matrix)}
  source = {CELLS[i]: {role: pairs[CELLS[i]][role] for role in roles} for i in order}
  text = json.dumps(source, indent=indent)
  policy = data.draw(st.sampled_from(list(pricing.PRESETS.values())))
  edited = pricing.apply(policy, array(matrix))
  out = edit.rewrite(text, edited)
  read = chain.parse(opening_text(out) + rest("DQ_DA", "Yes."))
  assert read.error is None
  np.testing.assert_array_equal(
    read.payoff, edited
  )  # what is written is what the choice is made on
  digits = str.maketrans("", "", "0123456789.-+e")
  assert out.translate(digits) == text.translate(digits)
  assert list(json.loads(out)) == list(source)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60)
@given(st.data())
def test_the_edit_replaces_only_tokens_that_touch_the_object(name, data):
  tokenizer = TOKENIZERS[name]()
  thinking = data.draw(st.text(alphabet="aé 漢{<", min_size=1, max_size=8)) + " VQ."
  space = data.draw(st.sampled_from(["", " ", "\n", "　"]))
  payoffs = (
    space + written(separators=data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))) + space
  )
  text = opening_text(payoffs, thinking, tail=data.draw(st.sampled_from(["", "<", "\n"])))
  if name == "byte_level":  # sampled tokens need not be those that the tokenizer would choose
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)])]
    ids = [token for piece in pieces for token in encode(tokenizer, piece)]
  else:
    ids = encode(tokenizer, text)
  opening = edit.read(tokenizer, ids)
  assert opening.text == text and opening.user_type == 1
  new = written(np.round(np.asarray(MATRIX) - 7.3, 1).tolist())
  out = edit.splice(tokenizer, opening, new)
  start, end = opening.span
  assert spell(tokenizer, out) == text[:start] + new + text[end:]
  front, back = differing(ids, out)
  offsets = chain.token_offsets(ids, lambda part: spell(tokenizer, part))
  assert front >= sum(stop <= start for _, stop in offsets)
  assert back >= sum(begin >= end for begin, _ in offsets)


def test_a_tag_that_shares_tokens_with_the_object_is_spelled_once():
  tokenizer = sentencepiece()
  ids = encode(tokenizer, opening_text("{" + written()[1:]))
  pieces = tokenizer.convert_ids_to_tokens(ids)
  assert '{"' in pieces and "}}" in pieces
  out = edit.splice(tokenizer, edit.read(tokenizer, ids), " " + written())
  assert "<payoff> {" in spell(tokenizer, out)


def test_a_tokenizer_that_cannot_spell_the_edit_is_reported():
  class Deaf:
    def decode(self, ids, **_):
      return byte_level().decode(ids)

    def encode(self, text, **_):
      return encode(byte_level(), text.replace("7", "8"))

  opening = edit.read(byte_level(), encode(byte_level(), opening_text()))
  with pytest.raises(RunFailure, match="cannot spell"):
    edit.splice(Deaf(), opening, written(np.full((6, 2), 7.0).tolist()))


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("no chain at all", "missing_block"),
    ("<thinking>cut off", "truncated"),
    ("<payoff>" + written() + "</payoff>", "missing_block"),
    ("Well. " + opening_text(), "stray_text"),
    (opening_text("{"), "payoff_syntax"),
    (opening_text(written()[:-1] + ',"XX":1}'), "payoff_keys"),
    (opening_text(written(((float("nan"), 1.0), *MATRIX[1:]))), "payoff_value"),
    (opening_text(written(((1e300, 1.0), *MATRIX[1:]))), "payoff_value"),
    (opening_text(thinking="<response>x</response>"), "repeated_block"),
  ],
)
def test_an_opening_that_cannot_be_edited_says_why(text, reason):
  assert edit.read(byte_level(), encode(byte_level(), text)) == reason


# ---------------------------------------------------------------- the whole path, recorded

RULES = RewardConfig()


class Recorded:
  """`Complete` that plays texts back: openings one a draw, and a continuation for each row."""

  def __init__(self, openings, rests):
    self.openings, self.rests, self.calls = openings, rests, []

  def __call__(self, prompts, numbers, draw):
    self.calls.append(([list(map(int, each)) for each in prompts], list(numbers), draw))
    texts = self.rests if draw == steer.TAIL else [self.openings[draw - 1]] * len(prompts)
    return [encode(byte_level(), text) for text in texts]


def steered(complete, policies, tries=1):
  questions = [steer.Question(np.array([7, 8, 9]), 5, policies)]
  return steer.steer(byte_level(), complete, questions, RULES, tries)[0]


def test_the_choice_follows_the_edit_and_the_chain_goes_on_from_it():
  answer, question = rest("DQ_DA", "It is Paris."), rest("DQ_CQ", "Which one?")
  complete = Recorded(["no", opening_text()], [answer, question])
  found = steered(complete, [pricing.PRESETS["free"], PAID], tries=3)
  assert found.reasons == ["missing_block"]
  free, paid = found.results
  assert [r["pricing"] for r in (free, paid)] == ["free", "pay_per_token"]
  assert [r["try"] for r in (free, paid)] == [2, 2]
  assert free["choice"] == free["edited_choice"] == paid["choice"] == "DQ_DA"
  assert paid["edited_choice"] == paid["edited_named"] == "DQ_CQ"  # sums 5.6 and 6.0
  assert (paid["action"], paid["edited_action"]) == ("DA", "CQ")
  assert paid["payoff"]["DQ_DA"] == {"LLM": 4.0, "user": 4.0}
  assert paid["edited"]["DQ_DA"] == {"LLM": 4.6, "user": 1.0}
  assert paid["edited"]["DQ_CQ"] == {"LLM": 3.6, "user": 2.4}
  assert paid["completion"] == opening_text() + answer
  assert paid["edited_response_tokens"] == len(encode(byte_level(), "Which one?"))
  again = chain.parse(paid["edited_completion"])
  assert again.error is None and paid["edited_response"] == "Which one?"
  np.testing.assert_array_equal(again.payoff, pricing.apply(PAID, array(MATRIX)))
  assert [draw for _, _, draw in complete.calls] == [1, 2, steer.TAIL]
  rows, numbers, _ = complete.calls[-1]
  assert rows[0] == [7, 8, 9, *encode(byte_level(), opening_text())]  # as sampled, to the last id
  # the payoffs have one decimal already: what `free` writes is the same, and goes on once
  assert len(rows) == 2 and numbers == [5, 5] and rows[1][:3] == [7, 8, 9]
  assert free["edited_completion"] == free["completion"] == paid["completion"]


def test_no_readable_payoffs_leave_the_reasons():
  complete = Recorded(["no", opening_text("{"), "<thinking>"], [])
  found = steered(complete, [PAID], tries=3)
  assert found == steer.Steered([], ["missing_block", "payoff_syntax", "truncated"])
  assert [draw for _, _, draw in complete.calls] == [1, 2, 3]
  long = steer.steer(
    byte_level(), Recorded([opening_text()], []), [steer.Question([1], 0, [PAID])], RULES, 1, 50
  )
  assert long[0] == steer.Steered([], ["over 50 tokens"])


def test_a_continuation_that_breaks_off_is_shown_as_such():
  escape = rest("DQ_CQ", "Red \x1b[31m or blue?")
  complete = Recorded([opening_text(thinking="It is clear.")], ["<analyze>I think", escape])
  (result,) = steered(complete, [PAID]).results
  assert result["parse_error"] == "truncated" and result["named"] is None
  assert result["response_tokens"] is None
  assert result["user_type"] is None and result["edited_parse_error"] is None
  shown = steering_text.matrices(result)
  assert "as written: (truncated)" in shown and "\x1b" not in shown
  assert "edited: Red  [31m or blue?" in shown
  assert "DQ_DA        4.0    4.0       4.6    1.0   *" in shown


# ---------------------------------------------------------------- the policy behind it


def sampled(temperature=1.0, mesh=None):
  made = engine(buckets=(32,), budget=12, mesh=mesh, group_size=1, temperature=temperature)
  key = jax.device_put(jax.random.key(3), sharding.replicated(made.programs.mesh))
  return steer.sampler(made, policy().params, key, (), 2).complete


PROMPT = np.array([40, 41], np.int32)


def test_a_continuation_is_what_the_policy_would_have_written_anyway():
  complete = sampled(temperature=0.0)
  (whole,) = complete([PROMPT], [0], 1)
  assert len(whole) == 12
  first, second = complete([np.array([*PROMPT, *whole[:5]]), PROMPT], [0, 0], steer.TAIL)
  assert first[:7] == whole[5:] and second == whole


def test_questions_of_a_batch_draw_differently_and_continuations_of_one_alike():
  """The same prompt ids, on a mesh of two devices: what differs is the draw, not the model."""
  complete = sampled(mesh=meshes.make(MeshConfig(), jax.devices()[:2]))
  for draw in (steer.TAIL, 1):
    one, again, other = complete([PROMPT] * 3, [4, 4, 5], draw)
    assert one == again != other
    assert complete([PROMPT], [5], draw) == [other]  # whatever is steered together with it
  assert complete([PROMPT], [5], 2) != [other] != complete([PROMPT], [5], steer.TAIL)


# ---------------------------------------------------------------- the command


def speak(monkeypatch, said="honest"):
  monkeypatch.setattr(intervene, "stream", POLICIES[said].stream)


ASKED = ["steer", "--model", "random:tiny", "--max-new-tokens", "640"]


def test_a_question_prints_tables_and_one_json_object(monkeypatch, capsys, tmp_path):
  speak(monkeypatch)
  dear = tmp_path / "dear.toml"
  dear.write_text("[price]\nuser = 0.1\n", encoding="utf-8")
  asked = [*ASKED, "--question", "number 0, où?", "--json"]
  assert main([*asked, "--pricing", str(dear), "--pricing", "free"]) == 0
  *shown, last = capsys.readouterr().out.splitlines()
  out = json.loads(last)
  assert out["question"] == "number 0, où?"
  assert [each["pricing"] for each in out["policies"]] == ["dear", "free"]
  keys = {"payoff", "edited", "choice", "edited_choice", "completion", "edited_completion"}
  assert keys <= out["policies"][0].keys()
  assert out["policies"][0]["edited_choice"] == out["policies"][0]["edited_named"] == "DQ_CQ"
  assert sum("as written" in line and "edited" in line for line in shown) == 2
  assert shown.count("the model: DQ_CQ, followed") == shown.count("the model: same choice") == 1


@pytest.mark.parametrize(
  ("change", "code", "said"),
  [
    ({"pricing": "pay_per_tokn"}, 2, "did you mean pay_per_token"),
    ({"pricing": "missing.toml"}, 2, "cannot be read"),
    ({"pricing": None}, 2, "needs --pricing NAME|FILE, or --sweep"),
    ({"model": "/no/such/model"}, 2, "does not exist"),
    ({"question": " \n"}, 2, "is empty"),
    ({"question": "\udce9"}, 2, "not valid UTF-8"),
    ({"question": None}, 2, "takes --question TEXT, or --data PATH or --suite"),
    ({"data": "in.jsonl"}, 2, "takes --question TEXT, or --data PATH"),
    ({"prompts": "3"}, 2, "--prompts is for many prompts"),
    ({"sweep": "price=0:1:3"}, 2, "--sweep is for many prompts"),
    ({"question": None, "data": ""}, 2, "takes one file to write"),
    ({"question": None, "data": "", "out": "x.jsonl", "sweep": "price=1"}, 2, "START:STOP:COUNT"),
    ({"question": None, "data": "", "out": "x.jsonl", "sweep": "price=0:1:3"}, 2, "charges noth"),
    ({"question": None, "data": "", "out": "x.jsonl grpo.lr=1"}, 2, "grpo.lr"),
    ({"tries": "0"}, 2, "--tries=0"),
    ({"tries": "2", "temperature": "0"}, 2, "--tries=2: greedy chains are all the same"),
    ({"seed": str(2**63)}, 2, "--seed="),
    ({"question": "why? " * 5000}, 2, "every prompt is longer"),
    ({"max-new-tokens": "8", "tries": "2"}, 1, "no readable payoffs in 2 tries"),
  ],
)
def test_bad_input_and_failure_are_one_line(change, code, said, capsys, monkeypatch):
  asked = {"model": "random:tiny", "pricing": "free", "question": "Why?"} | change
  out = asked.pop("out", "").split()
  flags = [f"--{key}={value}" for key, value in asked.items() if value is not None]
  assert main(["steer", *flags, *out]) == code
  captured = capsys.readouterr()
  assert said in captured.err and captured.err.count("\n") == 1 and captured.out == ""
