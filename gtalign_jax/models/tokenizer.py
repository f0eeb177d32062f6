"""Tokenizers: of a Hugging Face directory, of GGUF metadata, and a tiny one made in code."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import (
  AddedToken,
  Regex,
  Tokenizer,
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.models import folder, vocabulary

CHATML = (
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
  "+ '<|im_end|>' + '\n' }}{% endfor %}"
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# tokenizer.ggml.pre -> how text is cut before merging, as in the models' tokenizer.json: a pattern,
# or GPT-2's own, before which each digit may be cut off
_CUTS = {
  "smollm": "digits", "default": "gpt2", "gpt-2": "gpt2",
  "llama-bpe": _CONTRACTIONS + _WORDS.replace("DIGITS", r"\p{N}{1,3}"),
  "qwen2": _CONTRACTIONS + _WORDS.replace("DIGITS", r"\p{N}"),
}  # fmt: skip
_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5  # tokenizer.ggml.token_type


def _transformers() -> Any:
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it has torch in mind
  import transformers  # deferred: the import takes seconds

  return transformers


def _wrap(tokenizer: Tokenizer, template: str | None, **special: Any):
  made = _transformers().PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
  )
  made.chat_template = template
  return made


def from_directory(path: Path):
  """The tokenizer of a Hugging Face directory. Raises BadInput where it cannot be read.

  Code that the directory brings along is never run, nor is anyone asked whether it may be.
  """
  if not any((path / name).is_file() for name in _FILES):  # transformers would make an empty one
    raise BadInput(f"model {str(path)!r} has no readable tokenizer: none of {', '.join(_FILES)}")
  for name in _SETTINGS:
    if folder.read_optional(path / name).get("auto_map"):
      raise BadInput(
        f"model {str(path)!r}: {name} has the key auto_map, so its tokenizer is code of its own, "
        "which is never run; save it as tokenizer.json"
      )
  exact = folder.read_optional(path / "tokenizer.json")
  # as it stands: by the model's kind transformers would put together another one, and where the
  # config names code it would ask on the terminal
  kind = "PreTrainedTokenizerFast" if exact else "AutoTokenizer"
  reader = getattr(_transformers(), kind)
  try:
    made = reader.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
    if not made.is_fast:
      raise ValueError("it is none of the tokenizers library; save it as tokenizer.json")
    for each in exact.get("added_tokens", []):
      # the library numbers added tokens one after the other, whatever the file says
      if made.convert_tokens_to_ids(each["content"]) != each["id"]:
        text = each["content"]
        raise ValueError(f"tokenizer.json numbers its added tokens with gaps, at {text!r}")
    return made
  except (KeyboardInterrupt, SystemExit):
    raise
  # transformers raises many kinds, and the tokenizers library panics; all mean the same to the user
  except BaseException as error:
    reason = first_line(error)
    raise BadInput(f"model {str(path)!r} has no readable tokenizer: {reason}") from error


def _cut(pre: str, where: str) -> pre_tokenizers.PreTokenizer:
  if pre not in _CUTS:
    raise BadInput(
      f"{where}: tokenizer.ggml.pre={pre!r} is not one of {', '.join(_CUTS)}; "
      "use the model's Hugging Face directory"
    )
  rule = _CUTS[pre]
  named = rule in ("gpt2", "digits")
  last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=named)
  if rule == "gpt2":
    return last
  digits = pre_tokenizers.Digits(individual_digits=True)
  first = digits if named else pre_tokenizers.Split(Regex(rule), behavior="isolated")
  return pre_tokenizers.Sequence([first, last])


def from_gguf(metadata: Mapping[str, Any], where: str):
  """The byte-level BPE tokenizer that a GGUF file describes. Raises BadInput for other kinds."""
  ggml: dict[str, Any] = {k.removeprefix("tokenizer.ggml."): v for k, v in metadata.items()}
  get = ggml.get
  if get("model") != "gpt2":
    raise BadInput(
      f"{where}: tokenizer.ggml.model={get('model')!r} is not 'gpt2' (byte-level BPE); "
      "use the model's Hugging Face directory"
    )
  tokens: list[str] = _texts(ggml, "tokens", where)
  types = get("token_type") or [_NORMAL] * len(tokens)
  pairs = (each.partition(" ") for each in _texts(ggml, "merges", where))
  merges, pre = [(first, second) for first, _, second in pairs], get("pre", "default")
  # llama.cpp's converter fills a padded head up with tokens of its own, which spell nothing
  vocab = {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind != _UNUSED}
  # llama-bpe takes a whole word that is in the vocabulary before it merges
  tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=pre == "llama-bpe"))
  if pre == "qwen2":
    tokenizer.normalizer = normalizers.NFC()
  tokenizer.pre_tokenizer = _cut(pre, where)
  tokenizer.decoder = decoders.ByteLevel()
  for kind in (_CONTROL, _USER_DEFINED):
    special = kind == _CONTROL
    chosen = [token for token, each in zip(tokens, types) if each == kind]
    added = [AddedToken(token, special=special, normalized=False) for token in chosen]
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(added)
  names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
  given = {f"{name}_token": get(f"{key}_token_id") for name, key in names.items()}
  roles = {name: tokens[i] for name, i in given.items() if i is not None}
  last: list[Any] = [processors.ByteLevel(trim_offsets=False)]
  if get("add_bos_token", False):
    bos, ids = roles["bos_token"], [(roles["bos_token"], get("bos_token_id"))]
    last.append(processors.TemplateProcessing(single=f"{bos} $A", special_tokens=ids))
  tokenizer.post_processor = processors.Sequence(last)
  return _wrap(tokenizer, metadata.get("tokenizer.chat_template"), **roles)


def _texts(ggml: Mapping[str, Any], key: str, where: str) -> list[str]:
  found = ggml.get(key)
  if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
    raise BadInput(f"{where}: tokenizer.ggml.{key} is missing, or no list of texts")
  return found


def gguf_eos_ids(metadata: Mapping[str, Any], made: Any, where: str) -> tuple[int, ...]:
  """Every id that ends a turn: end of sequence, of turn, of message. Raises BadInput for none."""
  keys = [f"tokenizer.ggml.{each}_token_id" for each in ("eos", "eot", "eom")]
  ids = [metadata[key] for key in keys if metadata.get(key) is not None]
  return vocabulary.eos_ids([(", ".join(keys), ids)], made, where)


# Pairs that the tiny tokenizer merges: frequent in English and in payoff objects, so that prompts
# are shorter than their bytes. With 256 bytes and 4 special tokens they fill 320 ids.
_TINY_MERGES = (
  "Ġ t|h e|i n|e r|a n|o n|r e|Ġ a|Ġt he|e n|a t|e s|o r|Ġ s|i t|n d|o u|Ġ w|i s|Ġ o|e d|in g|Ġ c"
  "|a l|Ġ p|Ġ b|Ġ f|Ġ m|l e|Ġ in|Ġa nd|r o|i c|Ġo f|Ġ d|Ġt o|s t|i o|io n|u s|us er|l l|Ġ y|Ġy ou"
  '|e l|L M|L LM|D Q|V Q|_ D|_ C|_ A|_D A|_C Q|_A Q|< /|" :|Ġ {|Ġ "|0 .'
)


def tiny():
  """Byte-level BPE with 320 ids and a ChatML template, for tests and smoke runs."""
  special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
  merges = _TINY_MERGES.split("|")
  pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + [each.replace(" ", "") for each in merges]
  ggml = {
    "model": "gpt2", "pre": "smollm", "tokens": special + pieces, "merges": merges,
    "token_type": [_CONTROL] * len(special) + [_NORMAL] * len(pieces),
    "unknown_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "padding_token_id": 3,
  }  # fmt: skip
  metadata = {f"tokenizer.ggml.{key}": value for key, value in ggml.items()}
  return from_gguf(metadata | {"tokenizer.chat_template": CHATML}, "random:tiny")
