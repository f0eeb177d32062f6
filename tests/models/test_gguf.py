"""GGUF files written here in several quantisations, and the real SmolLM2-135M-Instruct."""

import json
import struct
import zlib
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import attention, hf_config, tokenizer, weights
from gtalign_jax.models.gguf import GGUF
from gtalign_jax.models.variants import Rope

GOLDEN = Path(__file__).parent.parent / "golden" / "models"
NAMES = {
  "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
  "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
# Quantisation blocks are 32 long, so every input size is a multiple of 32.
SIZES = {
  "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5,
  "max_position_embeddings": 512, "rope_theta": 50000.0,
}  # fmt: skip


def permuted(tensor, heads):
  """Rotary halves to pairs, as llama.cpp's converter does (convert_hf_to_gguf.py, permute)."""
  rows = tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:])
  return rows.swapaxes(1, 2).reshape(tensor.shape)


def stored_name(name):
  stem, suffix = name.rsplit(".", 1)
  if stem in TOP:
    return f"{TOP[stem]}.{suffix}"
  _, _, layer, rest = stem.split(".", 3)
  return f"blk.{layer}.{NAMES[rest]}.{suffix}"


def encoded(tensor, kind):
  """The tensor quantised; where the package cannot, random blocks that decode to finite values."""
  try:
    return gguf.quants.quantize(tensor, kind)
  except NotImplementedError:
    length, size = gguf.GGML_QUANT_SIZES[kind]
  count = tensor.size // length
  rng = np.random.default_rng(zlib.crc32(tensor.tobytes()))
  blocks = rng.integers(0, 256, (2 * count, size), np.uint8)
  with np.errstate(all="ignore"):
    finite = np.isfinite(gguf.quants.dequantize(blocks, kind)).all(1)
  return blocks[finite][:count].reshape(tensor.shape[0], -1)


def write(
  path, family, kind=gguf.GGMLQuantizationType.F32, extra=(), skip=(), unused=(), **changes
):
  """Writes a model; returns its arch and the tensors it should be read as."""
  config = SIZES | {"model_type": family} | changes
  arch = hf_config.read(config, family)
  writer = gguf.GGUFWriter(path, family)
  writer.add_block_count(arch.num_layers)
  writer.add_context_length(arch.max_positions)
  writer.add_embedding_length(arch.width)
  writer.add_feed_forward_length(arch.mlp_width)
  writer.add_head_count(arch.num_heads)
  writer.add_head_count_kv(arch.num_kv_heads)
  writer.add_layer_norm_rms_eps(arch.norm_eps)
  writer.add_rope_freq_base(arch.rope.theta)
  writer.add_key_length(arch.head_dim)
  add_tokenizer(writer, unused=unused)
  for call, *arguments in extra:
    getattr(writer, call)(*arguments)
  wanted = {}
  for name, tensor in model_cases.state_dict(arch).items():
    if name in skip:
      continue
    quantised = kind if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
    heads = {"q_proj": arch.num_heads, "k_proj": arch.num_kv_heads}.get(name.split(".")[-2])
    turn = heads and family == "llama"
    data = encoded(tensor, quantised)
    writer.add_tensor(
      stored_name(name), permuted(data, heads) if turn else data, raw_dtype=quantised
    )
    wanted[name] = gguf.quants.dequantize(data, quantised)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return arch, wanted


def add_tokenizer(writer, pre="smollm", unused=()):
  tiny = json.loads(tokenizer.tiny().backend_tokenizer.to_str())
  tokens = sorted(tiny["model"]["vocab"], key=tiny["model"]["vocab"].get)
  writer.add_tokenizer_model("gpt2")
  writer.add_tokenizer_pre(pre)
  writer.add_token_list([*tokens, *unused])
  kinds = [3 if token.startswith("<|") else 1 for token in tokens]
  writer.add_token_types(kinds + [5] * len(unused))
  writer.add_token_merges([" ".join(pair) for pair in tiny["model"]["merges"]])
  writer.add_eos_token_id(2)
  writer.add_bos_token_id(1)


def dequantised(kind):
  """Whether the gguf package can; asked with a block of zeros."""
  try:
    gguf.quants.dequantize(np.zeros(gguf.GGML_QUANT_SIZES[kind][1], np.uint8), kind)
  except NotImplementedError:
    return False
  return True


KINDS = [kind.name for kind in gguf.GGMLQuantizationType if dequantised(kind)]
OTHERS = [kind.name for kind in gguf.GGMLQuantizationType if not dequantised(kind)]
WIDE = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 256}  # the longest blocks are 256


def test_types_are_found():
  assert {"F32", "F16", "BF16", "Q8_0", "Q4_K", "Q6_K", "IQ1_M", "IQ4_XS", "MXFP4"} <= set(KINDS)
  assert {"Q8_K", "F64"} <= set(OTHERS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type(tmp_path, kind):
  path = tmp_path / "model.gguf"
  arch, wanted = write(path, "llama", gguf.GGMLQuantizationType[kind], **WIDE)
  source = GGUF(path)
  weights.check(arch, source, "model")
  assert source.arch() == arch and set(source.shapes) == set(wanted)
  for name, tensor in wanted.items():
    whole = tuple(slice(0, size) for size in tensor.shape)
    found = source.read(name, whole)
    assert found.dtype == np.float32 and np.isfinite(found).all() and found.std() > 0, name
    np.testing.assert_array_equal(found, tensor, err_msg=name)
    part = (slice(64, 192), *(slice(0, size) for size in tensor.shape[1:]))  # as a device reads it
    np.testing.assert_array_equal(source.read(name, part), tensor[part], err_msg=name)


@pytest.mark.parametrize("kind", OTHERS)
def test_type_that_the_package_cannot_read(tmp_path, kind):
  path = tmp_path / "model.gguf"
  raw = gguf.GGMLQuantizationType[kind]
  length, size = gguf.GGML_QUANT_SIZES[raw]
  rows = np.zeros((256, 256 // length * size), np.uint8)
  name = "blk.0.ffn_up.weight"
  extra = [("add_tensor", name, rows, None, raw)]
  write(path, "llama", extra=extra, skip=("model.layers.0.mlp.up_proj.weight",), **WIDE)
  with pytest.raises(
    BadInput, match=rf"cannot dequantise: blk\.0\.ffn_up\.weight \({kind}\); "
  ) as e:
    models.load(path)
  assert "\n" not in str(e.value)


def test_type_that_the_package_does_not_know(tmp_path):
  """Types come and go (31 was Q4_0_4_4), so files hold numbers that the package has no name for."""
  path = tmp_path / "model.gguf"
  write(path, "llama")
  name = b"blk.0.ffn_up.weight"
  content = bytearray(path.read_bytes())
  at = content.index(name) + len(name) + 4 + 2 * 8  # after the number of axes and two sizes
  assert content[at : at + 4] == bytes(4)  # F32
  content[at] = 31
  path.write_bytes(content)
  with pytest.raises(BadInput, match=r"readable GGUF file: blk\.0\.ffn_up\.weight has type 31, "):
    models.load(path)


@pytest.mark.parametrize("family, kind", [("llama", "Q5_1"), ("qwen2", "Q4_1"), ("qwen3", "Q8_0")])
def test_weights_of_every_layout(tmp_path, family, kind):
  path = tmp_path / "model.gguf"
  arch, wanted = write(path, family, gguf.GGMLQuantizationType[kind])
  policy = models.load(path)
  assert policy.config == arch
  source = model_cases.Memory(wanted)
  params = weights.assemble(arch, source, "float32", None)
  jax.tree.map(np.testing.assert_array_equal, policy.params, params)
  assert policy.eos_ids == (2,)
  text = "the user said 42 <payoff>"
  assert policy.tokenizer(text)["input_ids"] == tokenizer.tiny()(text)["input_ids"]


def test_tied_head_and_several_ends(tmp_path):
  path = tmp_path / "model.gguf"
  arch, _ = write(
    path, "llama", tie_word_embeddings=True, extra=[("add_eot_token_id", 0)], head_dim=None
  )
  policy = models.load(path)
  assert policy.config.tied and "head" not in policy.params and policy.config == arch
  assert policy.eos_ids == (0, 2)


def test_llama3_rope_is_recovered_from_its_divisors(tmp_path):
  path = tmp_path / "model.gguf"
  rope = Rope(theta=50000.0, kind="llama3", factor=32.0, original_positions=8192)
  plain, stretched = (attention.inverse_frequencies(r, 16) for r in (Rope(theta=50000.0), rope))
  divisors = (plain / stretched).astype(np.float32)
  write(path, "llama", extra=[("add_tensor", "rope_freqs.weight", divisors)])
  found = GGUF(path).arch().rope
  np.testing.assert_allclose(attention.inverse_frequencies(found, 16), stretched, rtol=1e-5)
  assert found.kind == "llama3" and found.factor == pytest.approx(32.0)
  write(path, "llama", extra=[("add_tensor", "rope_freqs.weight", divisors * np.float32(1.1))])
  with pytest.raises(BadInput, match=r"rope_freqs\.weight is not the stretching of Llama 3"):
    GGUF(path).arch()


def test_linear_rope(tmp_path):
  path = tmp_path / "model.gguf"
  extra = [
    ("add_rope_scaling_type", gguf.RopeScalingType.LINEAR), ("add_rope_scaling_factor", 4.0),
  ]  # fmt: skip
  write(path, "qwen2", extra=extra)
  assert GGUF(path).arch().rope == Rope(theta=50000.0, kind="linear", factor=4.0)


BAD = [
  ("llama", [("add_expert_count", 8)], "llama.expert_count=8 is not understood"),
  ("qwen2", [("add_rope_scaling_type", gguf.RopeScalingType.YARN)], "rope.scaling.type='yarn'"),
  ("llama", [("add_rope_dimension_count", 8)], "a part of each head only"),
  ("llama", [("add_tensor", "blk.0.extra.weight", np.zeros(4, np.float32))], "surplus blk.0.extra"),
]


@pytest.mark.parametrize("family, extra, message", BAD)
def test_keys_that_are_not_understood(tmp_path, family, extra, message):
  path = tmp_path / "model.gguf"
  write(path, family, extra=extra)
  with pytest.raises(BadInput, match=message):
    models.load(path)


def test_bad_files(tmp_path):
  path = tmp_path / "model.gguf"
  path.write_bytes(b"not a model")
  with pytest.raises(BadInput, match="not a readable GGUF file"):
    models.load(path)
  write(path, "llama", skip=("model.norm.weight",))
  with pytest.raises(BadInput, match=r"missing model\.norm\.weight 64"):
    models.load(path)
  writer = gguf.GGUFWriter(path, "falcon")
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.close()
  with pytest.raises(BadInput, match=r"general.architecture='falcon' is not one of"):
    models.load(path)


def test_a_file_that_is_cut_or_counts_wrongly(tmp_path):
  path = tmp_path / "model.gguf"
  write(path, "qwen2")
  whole = path.read_bytes()
  one = whole.index(b"qwen2.block_count") + len(b"qwen2.block_count")
  changes = {
    "cut header": whole[:200], "cut weights": whole[:-100], "magic": b"GGML" + whole[4:],
    "version": whole[:4] + struct.pack("<I", 99) + whole[8:],
    "tensors": whole[:8] + struct.pack("<Q", 2**60) + whole[16:],
    "keys": whole[:16] + struct.pack("<Q", 2**63) + whole[24:],
    "key length": whole[:24] + struct.pack("<Q", 2**50) + whole[32:],
    "kind": whole[:one] + struct.pack("<I", 77) + whole[one + 4:],
    "list": whole[:one] + struct.pack("<IIQ", 9, 0, 2**45) + whole[one + 16:],
    "layers": whole[:one + 4] + struct.pack("<I", 2**31) + whole[one + 8:],
    "twice": whole.replace(b"blk.0.attn_k.weight", b"blk.0.attn_q.weight"),
    "type": whole.replace(b"blk.0.attn_k.weight\2", b"blk.0.attn_k.weight\xff"),
    "empty": b"",
  }  # fmt: skip
  for what, data in changes.items():
    path.write_bytes(data)
    with pytest.raises(BadInput) as caught:
      models.load(path)
    assert "\n" not in str(caught.value) and "model" in str(caught.value), what


@pytest.mark.parametrize(
  "extra",
  [
    [("add_uint32", "general.alignment", 0)],
    [("add_uint32", "general.alignment", 7)],
    [("add_string", "general.alignment", "x")],
    [("add_head_count", [4, 4])],
    [("add_head_count", 0)],
    [("add_head_count", "4")],
    [("add_rope_freq_base", float("nan"))],
    [("add_token_list", [1, 2])],
    [("add_eos_token_id", 9999)],
    [("add_block_count", 2**31)],
  ],
  ids=str,
)
def test_metadata_of_the_wrong_kind(tmp_path, extra):
  path = tmp_path / "model.gguf"
  write(path, "qwen2", extra=extra)
  with pytest.raises(BadInput) as caught:
    models.load(path)
  assert "\n" not in str(caught.value)


def test_tokens_that_fill_a_head_up_are_none(tmp_path):
  """llama.cpp's converter writes [PAD320] … of type "unused" for rows that no token has."""
  path = tmp_path / "model.gguf"
  tokens = [f"[PAD{i}]" for i in range(320, 352)]
  write(path, "qwen2", unused=tokens, vocab_size=352)
  policy = models.load(path)
  assert policy.config.blank == ((320, 352),)
  assert 320 not in policy.tokenizer.get_vocab().values()


@pytest.fixture(scope="module")
def smollm2():
  try:
    return models.load("HuggingFaceTB/SmolLM2-135M-Instruct")
  except BadInput as error:
    pytest.skip(str(error))


def answer(policy, question, tokens=24):
  ids = policy.tokenizer.apply_chat_template(
    [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
  )
  # one length for all questions compiles once; the template's own system turn comes first
  ids = [policy.tokenizer.eos_token_id] * (48 - len(ids)) + ids
  made, _ = model_cases.greedy(policy.config, policy.params, np.asarray(ids, np.int32), tokens)
  made = made.tolist()
  end = min([made.index(i) for i in policy.eos_ids if i in made], default=len(made))
  return policy.tokenizer.decode(made[:end])


def test_plain_questions(smollm2):
  assert "Paris" in answer(smollm2, "What is the capital of France?")
  assert "4" in answer(smollm2, "What is 2+2?")
  greeting = answer(smollm2, "Hello!").lower()
  assert any(word in greeting for word in ("hello", "hi ", "hi!", "welcome", "help"))


def test_smollm2_equals_torch(smollm2):
  """Logits and 64 greedy tokens that transformers computed from the same file."""
  golden = json.loads((GOLDEN / "smollm2.json").read_text())
  ids_T = np.asarray(golden["prompt"], np.int32)
  tokens, logits_V = model_cases.greedy(smollm2.config, smollm2.params, ids_T, 64)
  assert tokens.tolist() == golden["greedy"]
  assert model_cases.relative_gap(logits_V[::512], golden["logits_every_512"]) < 2e-4


def test_smollm2_tokenizer(smollm2):
  for text, ids in json.loads((GOLDEN / "smollm2_ids.json").read_text()).items():
    assert smollm2.tokenizer(text)["input_ids"] == ids, text
    assert smollm2.tokenizer.decode(ids) == text
  chat = smollm2.tokenizer.apply_chat_template(
    [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
  )
  assert chat.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
  assert chat.endswith("<|im_start|>assistant\n")
  assert smollm2.eos_ids == (2,) and smollm2.tokenizer.pad_token_id == 2


def test_smollm2_embedding_is_finite_and_spread(smollm2):
  table_VD = smollm2.params["embed"]["table"]
  assert table_VD.shape == (49152, 576) and bool(jnp.isfinite(table_VD).all())
