"""What the keys of a `config.json` may hold: read, neutral, one value only, or refused.

A key that nobody here knows might change the computation, so it is refused by name, unless its
value switches something off: null, false, or nothing in it.
"""

import math
from collections.abc import Mapping
from typing import Any

from gtalign_jax.errors import BadInput
from gtalign_jax.models.variants import Family

# Keys that every family reads.
_READ = {
  "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
  "num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps",
  "max_position_embeddings", "tie_word_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
  "layer_types",
}  # fmt: skip
# Keys that change no logits, whatever they hold.
_NEUTRAL = {
  # files, training history, and which program wrote it
  "architectures", "torch_dtype", "dtype", "transformers_version", "initializer_range",
  "_name_or_path", "_commit_hash", "cache_implementation", "transformers.js_config",
  "unsloth_version", "unsloth_fixed", "attn_implementation", "_attn_implementation",
  "_attn_implementation_autoset", "experts_implementation", "gradient_checkpointing",
  "keys_to_ignore_at_inference", "pretraining_tp", "is_llama_config", "auto_map",
  "tokenizer_class", "use_cache", "use_return_dict", "return_dict", "output_hidden_states",
  "output_attentions", "chunk_size_feed_forward", "torchscript", "use_bfloat16", "tf_legacy_loss",
  "_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention_2",
  "model_max_length", "is_decoder",
  # heads of other tasks
  "id2label", "label2id", "num_labels", "problem_type", "finetuning_task", "task_specific_params",
  "classifier_dropout",
  # generation, which configs of earlier versions hold
  "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "unk_token_id", "prefix",
  "decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id", "max_length",
  "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
  "diversity_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
  "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
  "num_return_sequences", "output_scores", "return_dict_in_generate", "remove_invalid_values",
  "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens",
}  # fmt: skip
_OFF = (
  "attention_dropout", "hidden_dropout", "dropout", "hidden_dropout_prob", "attn_pdrop",
  "resid_pdrop", "embd_pdrop", "residual_dropout", "num_nextn_predict_layers", "num_local_experts",
  "num_experts",
)  # fmt: skip
_FACTORS = (
  "partial_rotary_factor", "rotary_pct", "embedding_multiplier", "residual_multiplier",
  "logits_scaling", "logit_scale",
)  # fmt: skip
# on in every family here, so a model that switches one off is another model
_ON = ("is_causal", "causal", "use_rope", "use_rotary", "use_rms_norm", "scale_attn_weights")
# Keys with the one value under which these families compute what their models do.
_ONLY: Mapping[str, Any] = {
  **dict.fromkeys(_OFF, 0.0),
  **dict.fromkeys(_FACTORS, 1.0),
  **dict.fromkeys(_ON, True),
  "rope_interleaved": False,
  "use_bidirectional_attention": False,
  "attn_logit_softcapping": None,
}
# The largest value of each dimension: far beyond any model, and small enough that nothing takes
# long or much memory before the weights are found not to fit.
_SIZES = {
  "vocab_size": 2**24, "hidden_size": 2**20, "intermediate_size": 2**22, "num_hidden_layers": 2**12,
  "num_attention_heads": 2**12, "num_key_value_heads": 2**12, "head_dim": 2**12,
  "max_position_embeddings": 2**40, "sliding_window_pattern": 2**12,
  "_sliding_window_pattern": 2**12,
}  # fmt: skip
_COUNTS = {"sliding_window": 2**40, "max_window_layers": 2**12}  # may be 0
_REALS = ("rms_norm_eps", "rope_theta", "rope_local_base_freq", "query_pre_attn_scalar",
          "final_logit_softcapping")  # fmt: skip
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")


def bad(where: str, key: str, value: object, rule: str) -> BadInput:
  """The error that names a key and its value."""
  return BadInput(f"config of {where}: {key}={str(repr(value))[:120]} {rule}")


def check(config: Mapping[str, Any], family: Family, where: str) -> None:
  """Raises BadInput for a key that is not understood, or a value that would change the numbers."""
  known = _READ | _NEUTRAL | set(family.own_config)
  norm = family.traits.get("qk_norm", False)
  only = {**_ONLY, **dict.fromkeys(("qk_norm", "use_qk_norm", "qk_layernorm"), norm)}
  for key, value in config.items():
    if key in only:
      if value is not None and value != only[key]:
        raise bad(where, key, value, f"is not supported; only {only[key]!r} is")
    # 0 == False, but a factor of 0 is not "off"
    elif key not in known and not (value is None or value is False or value in ({}, [])):
      raise bad(where, key, value, "is not understood, and might change the computation")


def check_values(values: Mapping[str, Any], where: str) -> None:
  """Raises BadInput where a dimension, a real number or a switch is none, or beyond reason."""
  for low, limits in ((1, _SIZES), (0, _COUNTS)):
    for key in limits.keys() & values.keys():
      whole(values[key], key, where, low, limits[key])
  for key in values.keys() & set(_REALS):
    real(values[key], key, where)
  for key in values.keys() & set(_FLAGS):
    if not isinstance(values[key], bool):
      raise bad(where, key, values[key], "must be true or false")
  for key in values.keys() & {"rope_scaling", "rope_parameters"}:
    table(values[key], key, where)


def whole(value: Any, key: str, where: str, low: int, high: int) -> int:
  """A whole number from `low` to `high`."""
  if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
    raise bad(where, key, value, f"must be a whole number from {low} to {high}")
  return value


def real(value: Any, key: str, where: str) -> float:
  """A finite number above 0."""
  number = isinstance(value, int | float) and not isinstance(value, bool)
  # compared before it is converted: JSON integers have no limit, floats do
  if not number or not 0 < value < 1e30 or not math.isfinite(value):
    raise bad(where, key, value, "must be a finite number above 0")
  return float(value)


def table(value: Any, key: str, where: str) -> dict[str, Any]:
  """An object; None is an empty one."""
  if value is not None and not isinstance(value, dict):
    raise bad(where, key, value, "must be an object")
  return value or {}
