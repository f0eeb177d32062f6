"""Tokenizers made in code and from GGUF metadata."""

import hypothesis
import hypothesis.strategies as st
import pytest

from gtalign_jax.errors import BadInput
from gtalign_jax.models import tokenizer

TINY = tokenizer.tiny()


def metadata(pre, **changes):
  """Bytes and a few merges, as a GGUF file would hold them."""
  alphabet = sorted(tokenizer.pre_tokenizers.ByteLevel.alphabet())
  merges = ["1 2", "12 3", "123 4", "i n", "Ġ in", "'i n"]
  tokens = ["<|end|>", *alphabet, "12", "123", "1234", "in", "Ġin", "<tool>"]
  types = [3] + [1] * (len(tokens) - 2) + [4]
  ggml = {
    "model": "gpt2", "pre": pre, "tokens": tokens, "merges": merges[:5], "token_type": types,
    "eos_token_id": 0,
  } | changes  # fmt: skip
  return {f"tokenizer.ggml.{key}": value for key, value in ggml.items()}


def pieces(pre, text, **changes):
  made = tokenizer.from_gguf(metadata(pre, **changes), "test")
  return made.convert_ids_to_tokens(made(text)["input_ids"])


CUTS = [
  ("smollm", ["1", "2", "3", "4", "5", "Ġin"]),
  ("qwen2", ["1", "2", "3", "4", "5", "Ġin"]),
  ("llama-bpe", ["123", "4", "5", "Ġin"]),  # groups of three digits from the left
  ("gpt-2", ["1234", "5", "Ġin"]),
]


@pytest.mark.parametrize("pre, wanted", CUTS)
def test_digits_are_cut_as_each_model_wants(pre, wanted):
  assert pieces(pre, "12345 in") == wanted


def test_special_tokens_stay_whole():
  assert pieces("smollm", "in<|end|><tool>1") == ["in", "<|end|>", "<tool>", "1"]
  made = tokenizer.from_gguf(metadata("smollm"), "test")
  ids = made("in<|end|><tool>")["input_ids"]
  assert made.decode(ids, skip_special_tokens=True) == "in<tool>"


def test_beginning_of_sequence_where_the_file_asks_for_it():
  tokens = pieces("llama-bpe", "in", add_bos_token=True, bos_token_id=0)
  assert tokens == ["<|end|>", "in"]
  assert pieces("llama-bpe", "in", add_bos_token=False, bos_token_id=0) == ["in"]


def test_qwen_normalises_and_smollm_does_not():
  decomposed = "e\u0301"  # e + combining acute accent
  assert pieces("qwen2", decomposed) == pieces("qwen2", "\u00e9")
  assert pieces("smollm", decomposed) != pieces("smollm", "\u00e9")


def test_kinds_that_are_not_understood():
  with pytest.raises(BadInput, match="pre='deepseek-llm' is not one of"):
    pieces("deepseek-llm", "x")
  with pytest.raises(BadInput, match="model='llama' is not 'gpt2'"):
    pieces("smollm", "x", model="llama")


def test_every_tiny_id_is_a_token():
  assert len(TINY) == TINY.vocab_size == 320
  assert all(TINY.convert_ids_to_tokens(range(320)))
  assert {TINY.bos_token_id, TINY.eos_token_id, TINY.pad_token_id} == {1, 2, 3}


@hypothesis.given(st.text(max_size=60).filter(lambda text: "<|" not in text))
@hypothesis.settings(max_examples=100)
def test_tiny_is_lossless(text):
  assert TINY.decode(TINY(text)["input_ids"]) == text


def test_tiny_chat_template():
  messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
  text = TINY.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
  assert text == (
    "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
  )
  ids = TINY.apply_chat_template(messages, add_generation_prompt=False, return_dict=False)
  assert ids.count(TINY.bos_token_id) == 2 and ids.count(TINY.eos_token_id) == 2
