"""GGUF files: config, weights and tokenizer from one file, without torch.

Quantised blocks run along the input axis, so any rows of a matrix are dequantised alone.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gtalign_jax.errors import BadInput, first_line
from gtalign_jax.models import hf_config, tokenizer
from gtalign_jax.models.attention import inverse_frequencies
from gtalign_jax.models.config_keys import real, whole
from gtalign_jax.models.variants import FAMILIES, Arch, Rope
from gtalign_jax.models.weights import TOP_NAMES, Index

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# name within blk.<i>. -> parameter of a layer, whose tensor a checkpoint names as FAMILIES says
_LAYER_NAMES = {
  "attn_norm": "attn_norm", "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o",
  "attn_q_norm": "q_norm", "attn_k_norm": "k_norm", "ffn_norm": "mlp_norm", "ffn_gate": "gate",
  "ffn_up": "up", "ffn_down": "down",
}  # fmt: skip
_TOP_NAMES = {"token_embd": "embed", "output_norm": "norm", "output": "head"}
_ROPE_FACTORS = "rope_freqs.weight"
# entries; each takes the package some microseconds, and no vocabulary has so many
_LONGEST_LIST = 2**21
# keys within the architecture's own; another one might change the computation
_KNOWN = {
  "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
  "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
  "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
  "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
}  # fmt: skip


class _Reader(gguf.GGUFReader):
  """The package's reader, with the checks that it leaves out."""

  def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
    # it would slice beyond the end, and go on with nothing for as long as a wrong count says
    if int(offset) + int(count) * np.dtype(dtype).itemsize > self.data.size:
      raise ValueError("the file ends before what its header promises; fetch it again")
    return super()._get(offset, dtype, count, override_order)

  def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
    if raw_type == gguf.GGUFValueType.ARRAY:
      count = int(self._get(orig_offs + 4, np.uint64)[0])
      if count > _LONGEST_LIST:
        raise ValueError(f"it holds a list of {count} entries, more than any vocabulary has")
    return super()._get_field_parts(orig_offs, raw_type)

  def _build_tensors(self, start_offs: int, fields: list[gguf.ReaderField]) -> None:
    numbers = {kind.value for kind in gguf.GGMLQuantizationType}
    for field in fields:
      name = bytes(field.parts[1]).decode()
      if field.parts[4][0] not in numbers:
        raise ValueError(f"{name} has type {field.parts[4][0]}, unknown to the gguf package")
      # NumPy's product of unsigned sizes wraps round
      if math.prod(field.parts[3].tolist()) > 8 * self.data.size:
        raise ValueError(f"{name} is larger than the file; fetch it again")
    super()._build_tensors(start_offs, fields)


class GGUF:
  """One open GGUF file; a `weights.Source`.

  metadata: all key-value pairs. shapes: tensors under their Hugging Face names.
  """

  def __init__(self, path: Path):
    try:
      reader = _Reader(path)
      self.metadata: dict[str, Any] = {k: v.contents() for k, v in reader.fields.items()}
    except Exception as error:  # the package checks little, and what it trips over varies
      reason = first_line(error)
      raise BadInput(f"model {str(path)!r} is not a readable GGUF file: {reason}") from error
    self.path, self.where = path, f"model {str(path)!r}"
    self._tensors = {_hf_name(t.name): t for t in reader.tensors}
    self.rope_factors = self._tensors.pop(_ROPE_FACTORS, None)
    self.shapes = {n: tuple(int(d) for d in t.shape[::-1]) for n, t in self._tensors.items()}
    self._heads: dict[str, int] = {}
    # llama.cpp stores query and key rows of Llama models with rotary pairs side by side
    if self.metadata.get("general.architecture") == "llama":
      heads = self._get("attention.head_count")
      self._heads = {"q_proj": heads, "k_proj": self._get("attention.head_count_kv", heads)}
    tensors = self._tensors.values()
    readable = {kind: _readable(kind) for kind in {t.tensor_type for t in tensors}}
    unknown = [f"{t.name} ({t.tensor_type.name})" for t in tensors if not readable[t.tensor_type]]
    if unknown:
      which = f"types that the gguf package cannot dequantise: {', '.join(unknown)}"
      raise BadInput(f"{self.where} has tensors of {which}; use another quantisation of the model")

  def _get(self, key: str, default: Any = None) -> Any:
    key = f"{self.metadata.get('general.architecture')}.{key}"
    value = self.metadata.get(key, default)
    if value is None:
      raise BadInput(f"{self.where} has no key {key}")
    return value

  def read(self, name: str, index: Index) -> np.ndarray:
    """Part of a tensor, dequantised to f32."""
    tensor = self._tensors[name]
    # mapped anew for each read, so pages of the file never pile up in the process
    data = np.memmap(self.path, tensor.data.dtype, "r", tensor.data_offset, tensor.data.shape)
    if len(index) == 1:
      return gguf.quants.dequantize(data, tensor.tensor_type)[index[0]]
    rows: Any = index[0]
    heads = self._heads.get(name.split(".")[-2])
    if heads:
      # for each row in the order (head, half, pair), the one in the file's order (head, pair, half)
      rows = np.arange(self.shapes[name][0]).reshape(heads, -1, 2).swapaxes(1, 2).reshape(-1)[rows]
    part = np.ascontiguousarray(data[rows])
    return gguf.quants.dequantize(part, tensor.tensor_type)[:, index[1]]

  def arch(self) -> Arch:
    """The model's dimensions. Raises BadInput for an architecture or key that is not understood."""
    family = self.metadata.get("general.architecture")
    if family not in ARCHITECTURES:
      known = ", ".join(ARCHITECTURES)
      raise self._other(f"general.architecture={family!r} is not one of {known}")
    for key in self.metadata:
      if key.startswith(f"{family}.") and key.removeprefix(f"{family}.") not in _KNOWN:
        raise self._other(f"key {key}={self.metadata[key]!r} is not understood")
    where = str(self.metadata.get("general.name", self.path.stem))
    heads = whole(self._get("attention.head_count"), "attention.head_count", where, 1, 2**12)
    width = whole(self._get("embedding_length"), "embedding_length", where, 1, 2**20)
    eps = real(self._get("attention.layer_norm_rms_epsilon"), "rms_epsilon", where)
    config = {
      "model_type": family,
      # not of the key: few files have it, and none must
      "vocab_size": self.shapes.get("model.embed_tokens.weight", (0,))[0],
      "hidden_size": width,
      "intermediate_size": self._get("feed_forward_length"),
      "num_hidden_layers": self._get("block_count"),
      "num_attention_heads": heads,
      "num_key_value_heads": self._get("attention.head_count_kv", heads),
      "max_position_embeddings": self._get("context_length"),
      # the file holds f32(1e-5); the shortest decimal that rounds to it is what the config said
      "rms_norm_eps": float(str(np.float32(eps))),
      "tie_word_embeddings": "lm_head.weight" not in self.shapes,
      "rope_theta": self._get("rope.freq_base", 10_000.0),
      "head_dim": self._get("attention.key_length", width // heads),
    }
    arch = hf_config.read(config, where)  # plain rope so far; sizes are now known to be sizes
    return dataclasses.replace(arch, rope=self._rope(arch))

  def describe(self) -> tuple[Arch, Any, tuple[int, ...]]:
    """(architecture, tokenizer, ids that end a turn)."""
    arch, where = self.arch(), str(self.path)
    made = tokenizer.from_gguf(self.metadata, where)
    return arch, made, tokenizer.gguf_eos_ids(self.metadata, made, where)

  def _other(self, why: str) -> BadInput:
    return BadInput(f"{self.where}: {why}; use the model's safetensors files")

  def _rope(self, arch: Arch) -> Rope:
    if self._get("rope.dimension_count", arch.head_dim) != arch.head_dim:
      raise self._other("rotary positions on a part of each head only")
    theta, kind = arch.rope.theta, self._get("rope.scaling.type", "none")
    if self.rope_factors is not None:
      # llama.cpp stores the llama3 stretching as one divisor a frequency; recover its parameters
      stored = np.asarray(self.rope_factors.data, np.float32)
      plain, factor = inverse_frequencies(arch.rope, arch.head_dim), float(stored.max())
      for length in (8192, self._get("rope.scaling.original_context_length", 8192)):
        rope = Rope(theta=theta, kind="llama3", factor=factor, original_positions=length)
        stretched = inverse_frequencies(rope, arch.head_dim)
        if np.allclose(plain / stretched, stored, rtol=1e-4):
          return rope
      raise self._other(f"{_ROPE_FACTORS} is not the stretching of Llama 3")
    if kind == "none":
      return arch.rope
    if kind != "linear":
      raise self._other(f"rope.scaling.type={kind!r} is not one of none, linear")
    factor = real(self._get("rope.scaling.factor"), "rope.scaling.factor", str(self.path))
    return Rope(theta=theta, kind="linear", factor=factor)


def _readable(kind: gguf.GGMLQuantizationType) -> bool:
  """Whether the gguf package dequantises this type; asked with one block of zeros."""
  try:
    gguf.quants.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind)
  except NotImplementedError:
    return False
  return True


def _hf_name(name: str) -> str:
  """Hugging Face name of a GGUF tensor; unknown names stay, and are then reported as surplus."""
  stem, _, suffix = name.rpartition(".")
  if stem in _TOP_NAMES:
    return f"{TOP_NAMES[_TOP_NAMES[stem]]}.{suffix}"
  block, _, rest = stem.partition(".")
  layer, _, part = rest.partition(".")
  if block != "blk" or part not in _LAYER_NAMES:
    return name
  return f"model.layers.{layer}.{FAMILIES['llama'].keys[_LAYER_NAMES[part]]}.{suffix}"
