"""Hugging Face directories in: configs, shards, and every way in which they can be wrong."""

import json
import shutil

import jax
import ml_dtypes
import model_cases
import numpy as np
import pytest
from safetensors.numpy import save_file

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import hf, hf_config, weights

NAME = "qwen3_bias_window"


@pytest.fixture(scope="module")
def tensors():
  return model_cases.state_dict(hf_config.read(model_cases.config(NAME), NAME))


@pytest.fixture(scope="module")
def template(tmp_path_factory, tensors):
  """A directory with two shards and an index."""
  path = tmp_path_factory.mktemp("hf")
  names = sorted(tensors)
  parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
  for file, part in parts.items():
    save_file({name: tensors[name] for name in part}, path / file)
  where = {name: file for file, part in parts.items() for name in part}
  (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
  (path / "config.json").write_text(json.dumps(model_cases.config(NAME)))
  model_cases.small_tokenizer().save_pretrained(path)
  return path


@pytest.fixture
def directory(template, tmp_path):
  return shutil.copytree(template, tmp_path / "model")


def edit(path, **changes):
  value = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(value))


def one_file(directory, tensors):
  for path in directory.glob("*.safetensors*"):
    path.unlink()
  save_file(tensors, directory / "model.safetensors")


def test_shards_give_the_same_parameters(directory):
  policy = models.load(directory)
  arch, params = model_cases.build(NAME)
  assert policy.config == arch
  jax.tree.map(np.testing.assert_array_equal, policy.params, params)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_stored_dtypes(directory, tensors, dtype):
  one_file(directory, {name: tensor.astype(dtype) for name, tensor in tensors.items()})
  params = models.load(directory).params
  kernel = np.asarray(params["layers"]["up"]["kernel"][1])
  stored = tensors["model.layers.1.mlp.up_proj.weight"].astype(dtype).astype(np.float32)
  assert np.array_equal(kernel, stored.T)
  narrow = models.load(directory, dtype="bfloat16").params
  assert narrow["embed"]["table"].dtype == ml_dtypes.bfloat16
  assert narrow["norm"]["scale"].dtype == np.float32  # norms are f32 wherever they are read


def test_all_faulty_tensors_are_listed_at_once(directory, tensors):
  wrong = dict(tensors)
  del wrong["model.layers.2.mlp.up_proj.weight"], wrong["model.norm.weight"]
  wrong["model.layers.0.self_attn.sinks"] = np.zeros(4, np.float32)
  wrong["lm_head.weight"] = wrong["lm_head.weight"][:-1]
  one_file(directory, wrong)
  with pytest.raises(BadInput) as caught:
    models.load(directory)
  message = str(caught.value)
  assert "missing model.layers.2.mlp.up_proj.weight 64x48" in message
  assert "missing model.norm.weight 48" in message
  assert "surplus model.layers.0.self_attn.sinks 4" in message
  assert "lm_head.weight is 95x48, must be 96x48" in message
  assert "\n" not in message


def test_a_tied_model_may_store_its_head_twice():
  arch, _ = model_cases.build("qwen2")
  tensors = model_cases.state_dict(arch)
  tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
  weights.check(arch, model_cases.Memory(tensors), "twice")
  tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
  with pytest.raises(BadInput, match=r"surplus lm_head.weight"):
    weights.check(arch, model_cases.Memory(tensors), "twice")


def test_damaged_files(directory, tensors):
  shard = directory / "a.safetensors"
  whole = shard.read_bytes()
  shard.write_bytes(whole[:-100])
  with pytest.raises(BadInput, match="is cut short or no readable"):
    models.load(directory)
  shard.write_bytes(whole[:20])
  with pytest.raises(BadInput, match=r"no readable safetensors.*fetch it again"):
    models.load(directory)
  shard.unlink()
  with pytest.raises(BadInput, match=r"lacks shards a.safetensors"):
    models.load(directory)
  one_file(directory, {name: tensor.astype(np.int8) for name, tensor in tensors.items()})
  with pytest.raises(BadInput, match="dtype I8, not one of F32, F16, BF16"):
    models.load(directory)
  (directory / "model.safetensors").unlink()
  with pytest.raises(BadInput, match=r"has no model.safetensors and no model.safetensors.index"):
    models.load(directory)
  (directory / "config.json").write_text("{")
  with pytest.raises(BadInput, match="is not JSON"):
    models.load(directory)


def test_a_directory_without_tokenizer(directory):
  for path in directory.glob("tokenizer*"):
    path.unlink()
  with pytest.raises(BadInput, match="no readable tokenizer"):
    models.load(directory)


def test_eos_ids_are_a_set(directory):
  assert models.load(directory).eos_ids == (2,)  # the tokenizer's
  edit(directory / "config.json", eos_token_id=5)
  assert models.load(directory).eos_ids == (5,)
  (directory / "generation_config.json").write_text('{"eos_token_id": [7, 2, 7]}')
  assert models.load(directory).eos_ids == (2, 7)


@pytest.mark.parametrize("name", model_cases.CASES)
def test_config_round_trip(name):
  arch = hf_config.read(model_cases.config(name), name)
  written = json.loads(json.dumps(hf_config.write(arch, "float32")))
  assert hf_config.read(written, name) == arch


def test_old_and_new_rope_keys_mean_the_same():
  old = model_cases.config("llama3")
  new = {k: v for k, v in old.items() if not k.startswith("rope_")}
  new["rope_parameters"] = old["rope_scaling"] | {"rope_theta": old["rope_theta"]}
  assert hf_config.read(old, "") == hf_config.read(new, "")
  old = model_cases.config("gemma3")
  new = {k: v for k, v in old.items() if not k.startswith("rope_")}
  new["rope_parameters"] = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
  }
  assert hf_config.read(old, "") == hf_config.read(new, "")


def multimodal(name, tensors):
  """A directory's config and tensors as a model of text and images has them."""
  text = model_cases.config(name)
  config = {"model_type": "gemma3", "vision_config": {"hidden_size": 8}, "text_config": text}
  inside = {f"language_model.{each}": tensor for each, tensor in tensors.items()}
  image = np.zeros((8, 4), np.float32)
  return config, inside | {
    "vision_tower.vision_model.embeddings.patch_embedding.weight": image,
    "multi_modal_projector.mm_input_projection_weight": image,
  }


def test_of_text_and_images_the_language_model_is_read(directory):
  arch, params = model_cases.build("gemma3")
  config, tensors = multimodal("gemma3", model_cases.state_dict(arch))
  (directory / "config.json").write_text(json.dumps(config))
  one_file(directory, tensors)
  policy = models.load(directory)
  assert policy.config == arch
  jax.tree.map(np.testing.assert_array_equal, policy.params, params)
  one_file(directory, {key: tensor for key, tensor in tensors.items() if ".norm." not in key})
  with pytest.raises(BadInput, match=r"missing model\.norm\.weight"):
    models.load(directory)
  edit(directory / "config.json", text_config={"model_type": "llama"})
  with pytest.raises(BadInput, match=r"text_config=.* must be an object"):
    models.load(directory)


def test_images_are_left_out_of_multimodal_checkpoints_alone(directory, tensors):
  one_file(directory, tensors | {"vision_tower.weight": np.zeros((8, 4), np.float32)})
  with pytest.raises(BadInput, match=r"surplus vision_tower\.weight 8x4"):
    models.load(directory)


BAD_CONFIGS = [
  ("llama3", {"model_type": "mamba"}, "model_type='mamba' is not one of llama"),
  ("llama3", {"sliding_window": 8}, "sliding_window=8 is not understood"),
  ("llama3", {"attn_output_gate": True}, "attn_output_gate=True is not understood"),
  ("llama3", {"quantization_config": {"bits": 4}}, "quantization_config=.* is not understood"),
  ("llama3", {"attention_dropout": 0.1}, "attention_dropout=0.1 is not supported"),
  ("llama3", {"hidden_act": "gelu"}, "hidden_act='gelu' is not what llama uses"),
  ("llama3", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type='yarn'"),
  ("llama3", {"rope_scaling": {"rope_type": "linear"}}, "rope parameters"),
  ("llama3", {"rope_scaling": {"type": "linear", "factor": 2.0, "beta": 1}}, "rope parameters"),
  ("llama3", {"hidden_size": None}, "no key 'hidden_size'"),
  ("qwen3", {"layer_types": ["full_attention"]}, "layer_types"),
  ("qwen2", {"layer_types": ["chunked_attention"] * 3}, "layer_types"),
  ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0 is not supported"),
  ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
  ("qwen2", {"use_mrope": True}, "use_mrope=True is not understood"),
  ("qwen2", {"dual_chunk_attention_config": {"chunk_size": 8}}, "dual_chunk_attention_config"),
  (
    "qwen2",
    {"layer_types": ["sliding_attention"] * 3},
    "layer_types=.* must be 3 of full_attention",
  ),
  ("qwen3", {"use_qk_norm": False}, "use_qk_norm=False is not supported; only True is"),
  ("llama3", {"is_causal": False}, "is_causal=False is not supported"),
  ("llama3", {"embedding_multiplier": 12.0}, "embedding_multiplier=12.0 is not supported"),
  ("llama3", {"num_experts": 8}, "num_experts=8 is not supported"),
]


@pytest.mark.parametrize("name, change, message", BAD_CONFIGS)
def test_config_fields_that_are_not_understood(name, change, message):
  with pytest.raises(BadInput, match=message):
    hf_config.read(model_cases.config(name) | change, "somewhere")


# Keys that files on the hub hold, with values that change nothing.
NEUTRAL = [
  ("qwen2", {"use_mrope": False, "tokenizer_class": "Qwen2Tokenizer", "num_labels": 2}),
  (
    "qwen2",
    {"dtype": "bfloat16", "attn_implementation": "flash_attention_2", "rope_scaling": None},
  ),
  ("qwen2", {"auto_map": {"AutoModelForCausalLM": "modeling.X"}, "quantization_config": None}),
  (
    "qwen2",
    {"max_length": 2048, "temperature": 0.7, "do_sample": True, "top_p": 0.8, "prefix": None},
  ),
  (
    "qwen2",
    {"use_sliding_window": False, "sliding_window": None, "layer_types": ["full_attention"] * 3},
  ),
  (
    "llama3",
    {"pruned_heads": {}, "torchscript": False, "use_bfloat16": False, "is_decoder": False},
  ),
  ("llama3", {"attention_dropout": 0, "resid_pdrop": 0.0, "use_qk_norm": False, "head_dim": None}),
  (
    "llama3",
    {"rotary_pct": 1.0, "logits_scaling": 1, "no_rope_layers": [], "use_sliding_window": False},
  ),
  ("mistral", {"attn_output_gate": False, "bad_words_ids": [[1]], "repetition_penalty": 1.1}),
]


@pytest.mark.parametrize("name, more", NEUTRAL)
def test_config_keys_that_change_nothing(name, more):
  config = model_cases.config(name)
  assert hf_config.read(config | more, "") == hf_config.read(config, "")


WRONG = [
  ("num_hidden_layers", (10**9, 10**30, 0, -1, 2.0, "2", True, [2], float("nan"))),
  ("hidden_size", (10**12, 0, "48", None)),
  ("vocab_size", (2**40, {}, -96)),
  ("num_key_value_heads", (3, 0, 99)),
  ("head_dim", (0, 7, 10**9)),
  ("rope_theta", (float("nan"), float("inf"), 0, -1e4, 10**400, "1e4", [1])),
  ("rms_norm_eps", ("1e-5", -1.0, float("inf"))),
  ("rope_scaling", ("linear", [1], {"type": ["linear"], "factor": 2}, {"type": "linear", "factor": "2"})),
  ("layer_types", (5, "full_attention", [["full_attention"]] * 3)),
  ("tie_word_embeddings", ("false", 1)),
  ("hidden_act", (["silu"], 5)),
  ("model_type", (["llama"], 5, None)),
]  # fmt: skip


@pytest.mark.parametrize("key, value", [(key, value) for key, values in WRONG for value in values])
def test_absurd_dimensions_are_one_line(key, value):
  with pytest.raises(BadInput) as caught:
    hf_config.read(model_cases.config("llama3") | {key: value}, "somewhere")
  assert key.removesuffix("_scaling") in str(caught.value) and len(str(caught.value)) < 300


def test_null_says_nothing():
  config = model_cases.config("mistral_full") | {"new_feature": None, "attention_dropout": None}
  assert hf_config.read(config, "").windows == (0, 0, 0)


def test_reads_only_the_asked_part(template, tensors):
  source = hf.Safetensors(template)
  name = "model.layers.0.self_attn.k_proj.weight"
  part = source.read(name, (slice(16, 32), slice(8, 24)))
  assert isinstance(part, np.memmap) and np.array_equal(part, tensors[name][16:32, 8:24])
