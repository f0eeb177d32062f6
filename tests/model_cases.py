"""Small configs of every family and option, with weights and inputs that need neither files nor torch.

Shared by tests/models (against committed logits) and tests/parity (against torch, which made them).
"""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from gtalign_jax.models import decoder, decoding, hf_config, weights
from gtalign_jax.types import Context

WIDTH, VOCAB, T = 48, 96, 44
BASE = {
  "vocab_size": VOCAB, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3,
  "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
  "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}  # fmt: skip
GEMMA = {
  "model_type": "gemma3_text", "hidden_activation": "gelu_pytorch_tanh", "head_dim": 16,
  "query_pre_attn_scalar": 24, "sliding_window": 8, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
  "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "num_hidden_layers": 4,
}  # fmt: skip
# T is beyond every sliding window (8) and every original rope length (16).
CASES = {
  "llama3": {"model_type": "llama", "rope_theta": 1e4, "rope_scaling": LLAMA3},
  "llama_linear_mqa_tied": {
    "model_type": "llama", "num_key_value_heads": 1, "tie_word_embeddings": True,
    "rope_scaling": {"type": "linear", "factor": 4.0},
  },
  "llama_biases_mha": {
    "model_type": "llama", "num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True,
  },
  "smollm2": {
    "model_type": "llama", "num_attention_heads": 6, "head_dim": 16, "rope_theta": 1e5,
    "tie_word_embeddings": True,
  },
  "qwen2": {"model_type": "qwen2", "rope_theta": 1e6, "tie_word_embeddings": True},
  "qwen2_window": {
    "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
  },
  "qwen3": {"model_type": "qwen3", "head_dim": 16, "rope_theta": 1e6},
  "qwen3_bias_window": {
    "model_type": "qwen3", "head_dim": 16, "attention_bias": True, "use_sliding_window": True,
    "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
  },
  "mistral": {"model_type": "mistral", "sliding_window": 8, "head_dim": 16},
  "mistral_full": {"model_type": "mistral", "sliding_window": None},
  "gemma3": GEMMA | {"layer_types": ["sliding_attention", "full_attention"] * 2},
  "gemma3_pattern_softcap": GEMMA | {
    "sliding_window_pattern": 3, "final_logit_softcapping": 1.5, "attention_bias": True,
    "tie_word_embeddings": False, "rope_scaling": None,
  },
}  # fmt: skip


def config(name):
  """The config.json of a case."""
  return BASE | CASES[name]


def state_dict(arch):
  """Random f32 tensors under their Hugging Face names; each depends on its name and shape alone."""
  made = {}
  for leaf in weights.leaves(arch):
    for name in leaf.names:
      noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(leaf.stored_shape)
      if leaf.path[-1] == "kernel":
        noise *= 1.5 / np.sqrt(leaf.stored_shape[1])
      elif leaf.path[-1] == "table":
        noise *= 0.3
      elif leaf.path[-1] == "scale":
        noise = 1.0 - arch.norm_offset + 0.3 * noise
      else:
        noise *= 0.3
      made[name] = noise.astype(np.float32)
  return made


def small_tokenizer():
  """Characters as tokens and four special ones, VOCAB ids: what a model of these cases has rows for."""
  special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
  characters = [chr(code) for code in range(32, 127) if chr(code) not in "`~^"]
  tokens = {token: i for i, token in enumerate([*special, *characters])}
  made = Tokenizer(models.BPE(tokens, []))
  made.decoder = decoders.Fuse()
  made.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in special])
  wrapped = PreTrainedTokenizerFast(
    tokenizer_object=made, eos_token=special[2], pad_token=special[3]
  )
  wrapped.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
  return wrapped


class Memory:
  """A `weights.Source` over a dict of arrays."""

  def __init__(self, tensors):
    self.tensors = tensors
    self.shapes = {name: tensor.shape for name, tensor in tensors.items()}

  def read(self, name, index):
    return self.tensors[name][index]


def build(name, mesh=None):
  """(arch, params) of a case."""
  arch = hf_config.read(config(name), name)
  source = Memory(state_dict(arch))
  weights.check(arch, source, name)
  return arch, weights.assemble(arch, source, "float32", mesh)


def inputs():
  """(tokens, positions, mask), [3, T]: a full row, one padded on the left, one on the right."""
  tokens_BT = np.random.default_rng(7).integers(0, VOCAB, (3, T)).astype(np.int32)
  mask_BT = np.ones((3, T), bool)
  mask_BT[1, :5] = False
  mask_BT[2, -6:] = False
  positions_BT = np.maximum(np.cumsum(mask_BT, axis=1) - 1, 0).astype(np.int32)
  return tokens_BT, positions_BT, mask_BT


forward = jax.jit(decoder.forward, static_argnums=0, static_argnames=("dtype", "remat"))


def relative_gap(got, wanted, mask_BT=None):
  """max |difference| / max |wanted| over entries that count."""
  got, wanted = np.asarray(got), np.asarray(wanted)
  if mask_BT is not None:
    got, wanted = got[mask_BT], wanted[mask_BT]
  return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def through_cache(
  arch, params, tokens_BT, positions_BT, mask_BT, prefill, layout="columns", dtype="float32"
):
  """Logits [B, T - prefill, V] of a prefill and one step for each further token."""
  decode = decoding.layout(layout)

  def columns(part):
    return tuple(jnp.asarray(x[:, part]) for x in (tokens_BT, positions_BT, mask_BT))

  B, T = tokens_BT.shape
  tokens, positions, mask = columns(slice(0, prefill))
  _, cache = forward(arch, params, tokens, positions, mask, dtype=dtype)
  context = Context(decode.prompt_cache(cache), mask, positions)
  row_cache = decode.empty(arch, B, 1, T - prefill, dtype)
  layers = decode.prepare(params)
  step = jax.jit(functools.partial(decode.step, arch, dtype=dtype))
  out = []
  for t in range(prefill, T):
    tokens, positions, _ = columns(t)
    slot, count_B = jnp.int32(t - prefill), jnp.full(B, t - prefill + 1)
    hidden_BD, row_cache = step(
      params, layers, tokens, positions, context, row_cache, slot, count_B
    )
    out.append(decoder.unembed(arch, params, hidden_BD))
  return np.stack(out, axis=1)


# Positions of `inputs()` whose logits are committed: inside and beyond windows and rope lengths.
KEPT = (5, 12, 24, 37)
# "Write a short story about a lighthouse keeper and a lost boat." with SmolLM2's template.
STORY_IDS = [
  1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28, 7018, 411, 407, 19712,
  8182, 2, 198, 1, 4093, 198, 19161, 253, 1890, 1977, 563, 253, 33059, 40061, 284, 253, 3590, 9741, 30, 2,
  198, 1, 520, 9531, 198,
]  # fmt: skip


@functools.partial(jax.jit, static_argnums=(0, 3))
def greedy(arch, params, ids_T, count):
  """`count` greedy tokens after one prompt, through the cache: (tokens, logits after the prompt [V])."""
  T = ids_T.shape[0]
  tokens_1T, positions_1T = ids_T[None], jnp.arange(T)[None]
  mask_1T = jnp.ones((1, T), bool)
  decode = decoding.layout("rows")
  hidden_1TD, cache = decoder.forward(arch, params, tokens_1T, positions_1T, mask_1T)
  logits_1V = decoder.unembed(arch, params, hidden_1TD[:, -1])
  context = Context(decode.prompt_cache(cache), mask_1T, positions_1T)
  layers = decode.prepare(params)

  def step(carry, t):
    token_1, own = carry
    at_1 = (T + t)[None]
    hidden_1D, own = decode.step(
      arch, params, layers, token_1, at_1, context, own, t, (t + 1)[None]
    )
    following_1 = jnp.argmax(decoder.unembed(arch, params, hidden_1D), axis=-1)
    return (following_1, own), token_1[0]

  own = decode.empty(arch, 1, 1, count, jnp.float32)
  first_1 = jnp.argmax(logits_1V, axis=-1)
  _, tokens = jax.lax.scan(step, (first_1, own), jnp.arange(count))
  return tokens, logits_1V[0]
