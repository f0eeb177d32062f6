"""What distinguishes one family of dense decoders from another, as data.

`Arch` is everything that the decoder needs to know, hashable (a jit static argument). `FAMILIES`
maps the `model_type` of a Hugging Face config to the names of its tensors and to the traits that
its config does not spell out. A further family is one entry here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Rope:
  """Rotary embedding: base and how its frequencies are stretched (as transformers defines it)."""

  theta: float = 10_000.0
  kind: str = "default"  # default | linear | llama3
  factor: float = 1.0  # linear, llama3: by how much long wavelengths are stretched
  low_freq_factor: float = 1.0  # llama3
  high_freq_factor: float = 4.0  # llama3
  original_positions: int = 8192  # llama3: context length before stretching


@dataclass(frozen=True, kw_only=True)
class Arch:
  """One dense decoder. Sizes are numbers of elements; `windows` has one entry a layer."""

  family: str  # key of FAMILIES
  vocab_size: int
  width: int  # D
  mlp_width: int  # F
  num_layers: int  # L
  num_heads: int  # N
  num_kv_heads: int  # K
  head_dim: int  # H
  max_positions: int  # context length the checkpoint states; not enforced
  windows: tuple[int, ...]  # sliding window of each layer, in positions; 0 = attends to everything
  rope: Rope = Rope()
  local_rope: Rope | None = None  # of layers with a window; None = same as `rope`
  norm_eps: float = 1e-6
  norm_offset: float = 0.0  # 1: the norm's factor is (1 + w)
  qk_norm: bool = False  # RMS norm of each query and key head
  post_norms: bool = False  # norms also after attention and after the mlp
  qkv_bias: bool = False
  o_bias: bool = False
  mlp_bias: bool = False
  tied: bool = False  # the head is the embedding table
  activation: str = "silu"  # silu | gelu_tanh
  embed_scale: float = 1.0
  query_scalar: float = 0  # attention scores are divided by its square root; 0 = H
  softcap: float | None = None  # logits = softcap * tanh(logits / softcap)
  # runs [first, end) of ids that no token spells: no draw and no probability ever is one of them
  blank: tuple[tuple[int, int], ...] = ()
  name: str = field(default="", compare=False)  # for messages

  @property
  def spelled_V(self) -> np.ndarray | None:
    """Which ids have a token; None where all have."""
    if not self.blank:
      return None
    spelled_V = np.ones(self.vocab_size, bool)
    for first, end in self.blank:
      spelled_V[first:end] = False
    return spelled_V

  @property
  def scale(self) -> float:
    """Factor on attention scores."""
    return (self.query_scalar or self.head_dim) ** -0.5


# parameter of a layer -> tensor name within `model.layers.<i>.`
_LLAMA_KEYS = {
  "attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
  "v": "self_attn.v_proj", "o": "self_attn.o_proj", "q_norm": "self_attn.q_norm",
  "k_norm": "self_attn.k_norm", "mlp_norm": "post_attention_layernorm", "gate": "mlp.gate_proj",
  "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_GEMMA_KEYS = _LLAMA_KEYS | {
  "post_attn_norm": "post_attention_layernorm",
  "mlp_norm": "pre_feedforward_layernorm",
  "post_mlp_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True)
class Family:
  """How a `model_type` names its tensors, its own config keys, and traits its config leaves unsaid.

  architecture: the class name written to config.json. defaults: values that transformers assumes
  for keys that a config file leaves out. traits: fields of Arch that hold for the whole family.
  """

  architecture: str
  keys: Mapping[str, str] = field(default_factory=lambda: _LLAMA_KEYS)
  own_config: tuple[str, ...] = ()
  defaults: Mapping[str, Any] = field(default_factory=dict)
  traits: Mapping[str, Any] = field(default_factory=dict)


FAMILIES: Mapping[str, Family] = {
  # Llama 3, 3.1, 3.2 and SmolLM2
  "llama": Family("LlamaForCausalLM", own_config=("attention_bias", "mlp_bias", "pretraining_tp")),
  # Qwen2 and Qwen2.5: bias on q, k and v without a config key that says so
  "qwen2": Family(
    "Qwen2ForCausalLM",
    own_config=("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
    defaults={"sliding_window": 4096, "max_window_layers": 28},
    traits={"qkv_bias": True},
  ),
  "qwen3": Family(
    "Qwen3ForCausalLM",
    own_config=(
      "attention_bias", "use_sliding_window", "sliding_window", "max_window_layers", "layer_types",
    ),
    defaults={"sliding_window": 4096, "max_window_layers": 28, "head_dim": 128},
    traits={"qk_norm": True},
  ),
  "mistral": Family(
    "MistralForCausalLM", own_config=("sliding_window",), defaults={"sliding_window": 4096}
  ),
  "gemma3_text": Family(
    "Gemma3ForCausalLM",
    keys=_GEMMA_KEYS,
    own_config=(
      "attention_bias", "sliding_window", "layer_types", "sliding_window_pattern",
      "_sliding_window_pattern", "rope_local_base_freq", "query_pre_attn_scalar",
      "final_logit_softcapping", "attn_logit_softcapping", "use_bidirectional_attention",
      "hidden_activation",
    ),
    defaults={
      "sliding_window": 4096, "head_dim": 256, "query_pre_attn_scalar": 256,
      "tie_word_embeddings": True, "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
      "hidden_activation": "gelu_pytorch_tanh", "sliding_window_pattern": 6,
    },
    traits={"qk_norm": True, "post_norms": True, "norm_offset": 1.0, "activation": "gelu_tanh"},
  ),
}  # fmt: skip

# A small member of the llama family for tests and smoke runs; every size divides by a 2x2x2 mesh.
TINY = Arch(
  family="llama", vocab_size=320, width=64, mlp_width=128, num_layers=2, num_heads=4,
  num_kv_heads=2, head_dim=16, max_positions=4096, windows=(0, 0), norm_eps=1e-5, tied=True,
  name="random:tiny",
)  # fmt: skip


def split_dimensions(arch: Arch) -> dict[str, tuple[str, int]]:
  """{name: (logical axis, size)} of what a mesh may split, for `parallel.mesh.check_model`."""
  axes = {
    "num_kv_heads": "kv_heads", "num_heads": "heads", "mlp_width": "mlp", "vocab_size": "vocab",
    "width": "embed",
  }  # fmt: skip
  return {name: (axis, getattr(arch, name)) for name, axis in axes.items()}
