"""Hugging Face `config.json` to `Arch` and back; a key that is not understood is an error."""

import math
from collections.abc import Mapping
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.models import multimodal
from gtalign_jax.models.config_keys import bad, check, check_values, real, table
from gtalign_jax.models.variants import FAMILIES, Arch, Family, Rope

_ACTIVATIONS = {"silu": "silu", "gelu_pytorch_tanh": "gelu_tanh"}
# key -> field of Arch, for what every family has
_FIELDS = {
  "vocab_size": "vocab_size", "hidden_size": "width", "intermediate_size": "mlp_width",
  "num_hidden_layers": "num_layers", "num_attention_heads": "num_heads",
  "num_key_value_heads": "num_kv_heads", "head_dim": "head_dim", "rms_norm_eps": "norm_eps",
  "max_position_embeddings": "max_positions", "tie_word_embeddings": "tied",
}  # fmt: skip
# what transformers assumes for any family; variants.py has what it assumes for one
_DEFAULTS = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_OPTIONAL = "original_max_position_embeddings"
# kind of rope -> its keys and the fields of Rope
_ROPE_KEYS = {
  "default": {},
  "linear": {"factor": "factor"},
  "llama3": {
    "factor": "factor", "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor", _OPTIONAL: "original_positions",
  },
}  # fmt: skip


def read(config: Mapping[str, Any], where: str) -> Arch:
  """The architecture that a config.json describes.

  where: named in errors. Raises BadInput for a model_type without entry in FAMILIES and for every
  key or value that is not understood.
  """
  config = multimodal.text_config(config, where)
  kind = str(config.get("model_type"))
  if kind not in FAMILIES:
    raise bad(where, "model_type", kind, f"is not one of {', '.join(FAMILIES)}")
  family = FAMILIES[kind]
  check(config, family, where)
  given = {key: value for key, value in config.items() if value is not None}
  values = {**_DEFAULTS, **family.defaults, **given}
  if config.get("sliding_window", ...) is None:
    values["sliding_window"] = 0  # the one key where null is not "as usual" but "none"
  check_values(values, where)
  try:
    return _arch(kind, family, values, where)
  except KeyError as error:
    raise BadInput(f"config of {where} has no key {error.args[0]!r}") from error


def _arch(kind: str, family: Family, values: Mapping[str, Any], where: str) -> Arch:
  heads, width = values["num_attention_heads"], values["hidden_size"]
  values = {"num_key_value_heads": heads, "head_dim": width // heads} | dict(values)
  fields: dict[str, Any] = {field: values[key] for key, field in _FIELDS.items()}
  kv_heads, head_dim = fields["num_kv_heads"], fields["head_dim"]
  if heads % kv_heads:
    raise bad(where, "num_key_value_heads", kv_heads, f"does not divide {heads} attention heads")
  if head_dim < 2 or head_dim % 2:
    raise bad(where, "head_dim", head_dim, "must be even: rotary positions turn pairs")
  activation = values.get("hidden_activation") or values.get("hidden_act", "silu")
  if _ACTIVATIONS.get(str(activation)) != family.traits.get("activation", "silu"):
    raise bad(where, "hidden_act", activation, f"is not what {kind} uses")
  rope, local_rope = _ropes(values, kind, where)
  bias = values.get("attention_bias", False)  # Qwen2 has one on q, k, v and no key: see traits
  fields |= {"qkv_bias": bias, "o_bias": bias, "mlp_bias": values.get("mlp_bias", False)}
  if kind == "gemma3_text":
    fields["embed_scale"] = math.sqrt(width)
    fields["query_scalar"] = values["query_pre_attn_scalar"]
  fields |= {"rope": rope, "local_rope": local_rope, **family.traits}
  fields["windows"] = _windows(values, family, fields["num_layers"], where)
  softcap = values.get("final_logit_softcapping")
  return Arch(family=kind, softcap=softcap, name=where, **fields)


def _windows(values: Mapping[str, Any], family: Family, layers: int, where: str) -> tuple[int, ...]:
  """Sliding window of each layer; 0 = none."""
  # a family that does not know the key never slides, whatever a config says of it
  window = values.get("sliding_window", 0) if "sliding_window" in family.own_config else 0
  if "max_window_layers" in family.own_config:  # Qwen: off unless asked for
    if not values.get("use_sliding_window", False):
      window = 0
    first = values["max_window_layers"]
    default = [window if i >= first else 0 for i in range(layers)]
  elif "sliding_window_pattern" in family.own_config:  # Gemma: every n-th layer sees everything
    every = values.get("_sliding_window_pattern", values["sliding_window_pattern"])
    default = [window if (i + 1) % every else 0 for i in range(layers)]
  else:
    default = [window] * layers
  types = values.get("layer_types")
  if types is None:
    return tuple(default)
  kinds = {"full_attention": 0} | ({"sliding_attention": window} if window else {})
  if not isinstance(types, list) or len(types) != layers or not {*map(str, types)} <= kinds.keys():
    raise bad(where, "layer_types", types, f"must be {layers} of {', '.join(kinds)}")
  return tuple(kinds[each] for each in types)


def _ropes(values: Mapping[str, Any], kind: str, where: str) -> tuple[Rope, Rope | None]:
  """Rotary parameters of layers without and with a window, from the old keys or the new ones."""
  theta, scaling = values.get("rope_theta", 10_000.0), values.get("rope_scaling")
  parameters = values.get("rope_parameters") or {}
  if kind != "gemma3_text":
    return _rope(scaling or parameters, theta, where), None
  kinds = ("full_attention", "sliding_attention")
  if unknown := set(parameters).difference(kinds):
    raise bad(where, "rope_parameters", sorted(unknown), "are not kinds of layers")
  full, local = (table(parameters.get(each), each, where) for each in kinds)
  local_rope = _rope(local, values["rope_local_base_freq"], where)
  return _rope(full | (scaling or {}), theta, where), local_rope


def _rope(given: Mapping[str, Any], theta: float, where: str) -> Rope:
  given = {k: v for k, v in given.items() if v is not None}
  older = given.pop("type", "default")
  kind = given.pop("rope_type", None) or older
  theta = real(given.pop("rope_theta", theta), "rope_theta", where)
  if given.get("partial_rotary_factor") == 1.0:  # all of each head, as here
    del given["partial_rotary_factor"]
  if str(kind) not in _ROPE_KEYS:
    raise bad(where, "rope_type", kind, f"is not one of {', '.join(_ROPE_KEYS)}")
  names = _ROPE_KEYS[kind]
  if given.keys() - names.keys() or names.keys() - given.keys() - {_OPTIONAL}:
    raise bad(where, "rope parameters", given, f"must be {', '.join(names) or 'none'} ({kind})")
  numbers = {key: real(value, f"{key} of rope_scaling", where) for key, value in given.items()}
  values: dict[str, Any] = {names[key]: number for key, number in numbers.items()}
  if _OPTIONAL in numbers:
    values["original_positions"] = int(numbers[_OPTIONAL])  # some configs say 8192.0
  return Rope(theta=theta, kind=kind, **values)


def write(arch: Arch, dtype: str) -> dict[str, Any]:
  """The config.json of `arch`, in keys that transformers 4 and 5 read alike; inverse of `read`."""
  family, rope, window = FAMILIES[arch.family], arch.rope, max(arch.windows)
  types = ["sliding_attention" if w else "full_attention" for w in arch.windows]
  stretched = {key: getattr(rope, field) for key, field in _ROPE_KEYS[rope.kind].items()}
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
  return {
    "architectures": [family.architecture],
    "model_type": arch.family,
    "torch_dtype": dtype,
    **{key: getattr(arch, field) for key, field in _FIELDS.items()},
    "hidden_act": "silu",  # Gemma reads hidden_activation instead
    "rope_theta": rope.theta,
    "rope_scaling": {"rope_type": rope.kind, **stretched} if stretched else None,
    "attention_dropout": 0.0,
    **{key: own[key] for key in family.own_config if key in own},
  }
