"""The same model on 8 virtual devices as on one."""

import dataclasses

import jax
import jax.numpy as jnp
import model_cases
import numpy as np
import pytest
import test_gguf
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder, export, hf_config, weights
from gtalign_jax.models.variants import FAMILIES

MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]
CONFIGS = {
  "qwen3": model_cases.config("qwen3") | {"num_key_value_heads": 4, "num_hidden_layers": 2},
  "gemma3": model_cases.config("gemma3") | {"num_key_value_heads": 4},
}


def mesh_of(shape):
  return jax.make_mesh(shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def batch(mesh):
  """8 rows, on the mesh split over rows."""
  rng = np.random.default_rng(4)
  tokens_BT = rng.integers(0, model_cases.VOCAB, (8, 20)).astype(np.int32)
  mask_BT = np.arange(20)[None] < rng.integers(10, 21, (8, 1))
  positions_BT = np.broadcast_to(np.arange(20, dtype=np.int32), (8, 20))
  if mesh is None:
    return tuple(map(jnp.asarray, (tokens_BT, positions_BT, mask_BT)))
  rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
  return jax.device_put((tokens_BT, positions_BT, mask_BT), rows)


def run(arch, params, inputs):
  """Logits and the gradient of their mean square."""

  @jax.jit
  def go(params):
    def loss(p):
      hidden_BTD, _ = decoder.forward(arch, p, *inputs)
      logits_BTV = decoder.unembed(arch, p, hidden_BTD)
      return jnp.mean(logits_BTV**2), logits_BTV

    return jax.grad(loss, has_aux=True)(params)

  grads, logits_BTV = go(params)
  return np.asarray(logits_BTV), jax.tree.map(np.asarray, grads)


@pytest.fixture(scope="module", params=CONFIGS)
def single(request):
  arch = hf_config.read(CONFIGS[request.param], request.param)
  source = model_cases.Memory(model_cases.state_dict(arch))
  params = weights.assemble(arch, source, "float32", None)
  return arch, source, run(arch, params, batch(None))


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_logits_and_gradients_equal_one_device(single, shape):
  arch, source, (wanted, wanted_grads) = single
  mesh = mesh_of(shape)
  with jax.set_mesh(mesh):
    params = weights.assemble(arch, source, "float32", mesh)
    logits_BTV, grads = run(arch, params, batch(mesh))
  assert model_cases.relative_gap(logits_BTV, wanted) < 1e-5
  for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wanted_grads)):
    assert model_cases.relative_gap(a, b) < 1e-4


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_parameters_are_really_sharded(single, shape):
  arch, source, _ = single
  params = weights.assemble(arch, source, "float32", mesh_of(shape))
  _, fsdp, tensor = shape
  whole = jax.tree.map(np.asarray, weights.assemble(arch, source, "float32", None))

  def check(path, array, reference):
    names = jax.tree_util.keystr(path)
    matrix = "kernel" in names or "table" in names
    parts = {"kernel": fsdp * tensor, "table": fsdp * tensor}.get(path[-1].key, 1)
    for shard in array.addressable_shards:
      assert shard.data.size * parts == array.size or not matrix, names
      np.testing.assert_array_equal(shard.data, reference[shard.index])
    assert len(array.addressable_shards) == 8

  jax.tree_util.tree_map_with_path(check, params, whole)
  per_device = sum(x.addressable_shards[3].data.nbytes for x in jax.tree.leaves(params))
  everything = sum(x.nbytes for x in jax.tree.leaves(params))
  assert per_device < everything / (fsdp * tensor) * 1.1


def test_random_parameters_do_not_depend_on_the_mesh():
  whole = models.load("random:tiny").params
  split = models.load("random:tiny", mesh=mesh_of((2, 2, 2))).params
  jax.tree.map(np.testing.assert_array_equal, whole, split)
  assert split["layers"]["q"]["kernel"].addressable_shards[0].data.shape == (2, 32, 2, 16)


@pytest.mark.parametrize("spec", ["random:tiny", "directory"])
def test_a_mesh_that_does_not_divide(spec, tmp_path):
  if spec == "directory":
    tiny = models.load("random:tiny")
    export.save(tiny.config, tiny.params, tiny.tokenizer, tmp_path / "m", eos_ids=(2,))
    spec = tmp_path / "m"
  with pytest.raises(BadInput, match=r"mesh\.tensor=4 does not divide num_kv_heads=2"):
    models.load(spec, mesh=mesh_of((1, 2, 4)))


def test_gguf_rows_are_read_per_device(tmp_path):
  """A split import of a quantised, permuted file equals the whole one."""
  path = tmp_path / "model.gguf"
  test_gguf.write(path, "llama", test_gguf.gguf.GGMLQuantizationType.Q8_0)
  whole, split = models.load(path), models.load(path, mesh=mesh_of((2, 2, 2)))
  jax.tree.map(np.testing.assert_array_equal, whole.params, split.params)


def test_a_further_family_is_one_entry(monkeypatch):
  """A made-up family with its own tensor names loads through the same code."""
  renamed = {key: f"block.{name}" for key, name in FAMILIES["llama"].keys.items()}
  entry = dataclasses.replace(FAMILIES["llama"], keys=renamed, traits={"qk_norm": True})
  monkeypatch.setitem(FAMILIES, "madeup", entry)
  arch = hf_config.read(model_cases.config("llama3") | {"model_type": "madeup"}, "madeup")
  tensors = model_cases.state_dict(arch)
  assert "model.layers.0.block.self_attn.q_norm.weight" in tensors
  params = weights.assemble(arch, model_cases.Memory(tensors), "float32", None)
  assert params["layers"]["q_norm"]["scale"].shape == (3, 12)
