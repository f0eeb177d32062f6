"""Hugging Face `config.json` to `Arch` and back; a key that is not understood is an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.models.variants import FAMILIES, Arch, Family, Rope

# Keys that every family reads.
_READ = {
  "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
  "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps",
  "max_position_embeddings", "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
}  # fmt: skip
# Keys that change no logits: files, training history, generation, which transformers wrote it.
_NEUTRAL = {
  "architectures", "torch_dtype", "dtype", "transformers_version", "use_cache",
  "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "_name_or_path",
  "pretraining_tp", "cache_implementation", "is_llama_config", "transformers.js_config",
  "unsloth_version", "unsloth_fixed", "return_dict", "output_hidden_states", "output_attentions",
  "id2label", "label2id", "problem_type", "chunk_size_feed_forward", "is_encoder_decoder",
  "_attn_implementation_autoset", "_attn_implementation", "keys_to_ignore_at_inference",
}  # fmt: skip
# Keys that are accepted with one value only, because another would change the computation.
_ONLY = {
  "attention_dropout": 0.0,
  "rope_interleaved": False,
  "use_bidirectional_attention": False,
  "attn_logit_softcapping": None,
  "partial_rotary_factor": 1.0,
}
_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
_ROPE_KEYS = {
  "default": {},
  "linear": {"factor": "factor"},
  "llama3": {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_positions",
  },
}


def _bad(where: str, key: str, value: Any, rule: str) -> BadInput:
  return BadInput(f"config of {where}: {key}={value!r} {rule}")


def read(config: Mapping[str, Any], where: str) -> Arch:
  """The architecture that a config.json describes.

  where: named in errors. Raises BadInput for a model_type without entry in FAMILIES and for every
  key or value that is not understood.
  """
  kind = str(config.get("model_type"))
  if kind not in FAMILIES:
    raise _bad(where, "model_type", kind, f"is not one of {', '.join(FAMILIES)}")
  family = FAMILIES[kind]
  _check_keys(config, family, where)
  values = {**family.defaults, **{k: v for k, v in config.items() if v is not None}}
  if config.get("sliding_window", ...) is None:
    values["sliding_window"] = 0  # the one key where null is not "as usual" but "none"
  try:
    return _arch(kind, family, values, where)
  except KeyError as error:
    raise BadInput(f"config of {where} has no key {error.args[0]!r}") from error


def _check_keys(config: Mapping[str, Any], family: Family, where: str) -> None:
  for key, value in config.items():
    if key in _ONLY:
      if value is not None and value != _ONLY[key]:
        raise _bad(where, key, value, f"is not supported; only {_ONLY[key]!r} is")
    elif value is not None and key not in _READ | _NEUTRAL | set(family.own_config):
      raise _bad(where, key, value, "is not understood, and might change the computation")


def _arch(kind: str, family: Family, values: Mapping[str, Any], where: str) -> Arch:
  heads, width = values["num_attention_heads"], values["hidden_size"]
  head_dim = values.get("head_dim") or width // heads
  layers = values["num_hidden_layers"]
  windows = _windows(values, layers, where)
  activation = values.get("hidden_activation") or values.get("hidden_act", "silu")
  if _ACTIVATIONS.get(activation) != family.traits.get("activation", "silu"):
    raise _bad(where, "hidden_act", activation, f"is not what {kind} uses")
  rope, local_rope = _ropes(values, kind, where)
  bias = bool(values.get("attention_bias", False))
  traits = {"qkv_bias": bias, "o_bias": bias} | dict(family.traits)
  if kind == "gemma3_text":
    traits["embed_scale"] = math.sqrt(width)
    traits["query_scalar"] = values["query_pre_attn_scalar"]
  return Arch(
    family=kind,
    vocab_size=values["vocab_size"],
    width=width,
    mlp_width=values["intermediate_size"],
    num_layers=layers,
    num_heads=heads,
    num_kv_heads=values.get("num_key_value_heads") or heads,
    head_dim=head_dim,
    max_positions=values.get("max_position_embeddings", 2048),
    windows=windows,
    rope=rope,
    local_rope=local_rope,
    norm_eps=values.get("rms_norm_eps", 1e-6),
    mlp_bias=bool(values.get("mlp_bias", False)),
    tied=bool(values.get("tie_word_embeddings", False)),
    softcap=values.get("final_logit_softcapping"),
    name=where,
    **traits,
  )


def _windows(values: Mapping[str, Any], layers: int, where: str) -> tuple[int, ...]:
  """Sliding window of each layer; 0 = none."""
  window = values.get("sliding_window") or 0
  if "use_sliding_window" in values or "max_window_layers" in values:  # Qwen: off unless asked for
    if not values.get("use_sliding_window", False):
      window = 0
    first = values["max_window_layers"]
    default = [window if i >= first else 0 for i in range(layers)]
  elif "sliding_window_pattern" in values:  # Gemma: every n-th layer sees everything
    every = values.get("_sliding_window_pattern") or values["sliding_window_pattern"]
    default = [window if (i + 1) % every else 0 for i in range(layers)]
  else:
    default = [window] * layers
  types = values.get("layer_types")
  if types is None:
    return tuple(default)
  kinds = {"full_attention": 0, "sliding_attention": window}
  if len(types) != layers or not set(types) <= kinds.keys():
    raise _bad(where, "layer_types", types, f"must be {layers} of {', '.join(kinds)}")
  return tuple(kinds[each] for each in types)


def _ropes(values: Mapping[str, Any], kind: str, where: str) -> tuple[Rope, Rope | None]:
  """Rotary parameters of layers without and with a window, from the old keys or the new ones."""
  theta = float(values.get("rope_theta", 10_000.0))
  scaling = values.get("rope_scaling")
  parameters = values.get("rope_parameters")
  if kind != "gemma3_text":
    return _rope(scaling or parameters or {}, theta, where), None
  local_theta = float(values["rope_local_base_freq"])
  parameters = parameters or {}
  full = parameters.get("full_attention") or {}
  local = parameters.get("sliding_attention") or {}
  unknown = set(parameters) - {"full_attention", "sliding_attention"}
  if unknown:
    raise _bad(where, "rope_parameters", sorted(unknown), "are not kinds of layers")
  return _rope(full | (scaling or {}), theta, where), _rope(local, local_theta, where)


def _rope(given: Mapping[str, Any], theta: float, where: str) -> Rope:
  given = {k: v for k, v in given.items() if v is not None}
  kind = given.pop("rope_type", None) or given.get("type", "default")
  given.pop("type", None)
  theta = float(given.pop("rope_theta", theta))
  if kind not in _ROPE_KEYS:
    raise _bad(where, "rope_type", kind, f"is not one of {', '.join(_ROPE_KEYS)}")
  names = _ROPE_KEYS[kind]
  if given.keys() != names.keys() - {"original_max_position_embeddings"} and (
    given.keys() != names.keys()
  ):
    raise _bad(where, "rope parameters", given, f"must be {', '.join(names) or 'none'} ({kind})")
  return Rope(theta=theta, kind=kind, **{names[key]: value for key, value in given.items()})


def write(arch: Arch, dtype: str) -> dict[str, Any]:
  """The config.json of `arch`, in keys that transformers 4 and 5 read alike; inverse of `read`."""
  family = FAMILIES[arch.family]
  config: dict[str, Any] = {
    "architectures": [family.architecture],
    "model_type": arch.family,
    "torch_dtype": dtype,
    "vocab_size": arch.vocab_size,
    "hidden_size": arch.width,
    "intermediate_size": arch.mlp_width,
    "num_hidden_layers": arch.num_layers,
    "num_attention_heads": arch.num_heads,
    "num_key_value_heads": arch.num_kv_heads,
    "head_dim": arch.head_dim,
    "hidden_act": "silu",
    "rms_norm_eps": arch.norm_eps,
    "max_position_embeddings": arch.max_positions,
    "tie_word_embeddings": arch.tied,
    "rope_theta": arch.rope.theta,
    "rope_scaling": _scaling(arch.rope),
    "attention_dropout": 0.0,
  }
  return config | _own_keys(arch, family)


def _scaling(rope: Rope) -> dict[str, Any] | None:
  if rope.kind == "default":
    return None
  named = {key: getattr(rope, attribute) for key, attribute in _ROPE_KEYS[rope.kind].items()}
  return {"rope_type": rope.kind} | named


def _own_keys(arch: Arch, family: Family) -> dict[str, Any]:
  window = max(arch.windows)
  types = ["sliding_attention" if w else "full_attention" for w in arch.windows]
  own = {
    "attention_bias": arch.qkv_bias,
    "mlp_bias": arch.mlp_bias,
    "use_sliding_window": window > 0,
    "sliding_window": window or None,
    "max_window_layers": types.index("sliding_attention") if window else arch.num_layers,
    "layer_types": types,
    "rope_local_base_freq": arch.local_rope.theta if arch.local_rope else None,
    "query_pre_attn_scalar": arch.query_scalar,
    "final_logit_softcapping": arch.softcap,
    "hidden_activation": "gelu_pytorch_tanh",
  }
  return {key: own[key] for key in family.own_config if key in own}
