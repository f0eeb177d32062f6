"""Programs compiled for TPU on this machine's CPU; needs libtpu, and no other process that has it.

pip install libtpu==0.0.42     (in an environment of its own: docs/tpu.md)
TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu pytest tests/aot
"""

import dataclasses

import pytest

from gtalign_jax.config import (
  Config,
  DataConfig,
  GRPOConfig,
  MeshConfig,
  PolicyConfig,
  RolloutConfig,
)
from gtalign_jax.errors import BadInput
from gtalign_jax.models.variants import Arch
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import topology
from gtalign_jax.train import plan

pytest.importorskip("libtpu")
pytestmark = pytest.mark.aot

# Qwen2.5-0.5B's proportions in small: head size 128, a vocabulary that dwarfs the layers
SMALL = Arch(
  family="qwen2",
  vocab_size=16_384,
  width=512,
  mlp_width=1536,
  num_layers=3,
  num_heads=4,
  num_kv_heads=2,
  head_dim=128,
  max_positions=4096,
  windows=(0,) * 3,
  qkv_bias=True,
  tied=True,
)


def config(**rollout):
  return Config(
    policy=PolicyConfig(dtype="bfloat16", remat="full"),
    data=DataConfig(max_prompt_tokens=256),
    rollout=RolloutConfig(group_size=8, prompt_buckets=(256,), segment=32, **rollout),
    grpo=GRPOConfig(prompts_per_step=8, micro_prompts=4),
    mesh=MeshConfig(fsdp=2, tensor=2),
  )


@pytest.fixture(scope="module")
def planned():
  return plan.plan(config(max_new_tokens=256), SMALL, topology.describe("v5e:2x2"))


def test_fits_and_covers_the_run(planned):
  assert planned["devices"] == 4 and planned["hbm_gib"] == 16 and planned["fits"]
  assert {"decode_params", "prefill", "decode", "accumulate", "apply"} <= planned["programs"].keys()
  assert all(each["total_gib"] > 0 for each in planned["programs"].values())


def test_decode_keeps_its_cache_in_place(planned):
  decode = planned["programs"]["decode"]
  cache_gib = 2 * 3 * (64 * 256 * 2 * 128) * 2 / 4 / 2**30  # k and v, layers, [B, C, K, H], bf16
  assert decode["alias_gib"] >= cache_gib
  # neither the cache nor the layers are copied
  assert decode["temp_gib"] < 0.5 * decode["argument_gib"]


def test_update_never_holds_all_logits(planned):
  logits_gib = 32 * 256 * 16_384 * 4 / 4 / 2**30  # f32 [b, C, V] of a slice, over 4 devices
  assert planned["programs"]["accumulate"]["temp_gib"] < logits_gib


def test_update_communicates(planned):
  moved = planned["programs"]["accumulate"]["collectives"]
  layer = SMALL.width * (3 * SMALL.mlp_width + 2 * 512 + 2 * 256)
  # FSDP gathers each matrix in bf16, at least forward and backward; a device holds half of the heads
  assert moved["all-gather"]["bytes"] >= 2 * 2 * (SMALL.num_layers * layer) / 2
  assert {"all-reduce", "reduce-scatter"} & moved.keys()


def test_says_so_where_it_does_not_fit():
  wide = dataclasses.replace(SMALL, num_layers=1, windows=(0,), vocab_size=2_097_152, width=4096)
  only_sampling = dataclasses.replace(config(max_new_tokens=64), grpo=GRPOConfig(steps=0))
  found = plan.plan(only_sampling, wide, topology.describe("v5e:2x2"))
  assert not found["fits"] and found["peak_gib"] > 16


@pytest.mark.parametrize("name", ["v5e:3x5", "v5p:4x4", "v7:2x2", "v5e", "v5e:0x2"])
def test_unknown_slices_are_refused(name):
  with pytest.raises(BadInput, match=f"--topology {name}"):
    topology.describe(name)


@pytest.mark.parametrize(("name", "devices", "hbm"), [("v4:2x2x2", 8, 32), ("v5p:2x2x1", 4, 95)])
def test_a_chip_is_one_device(name, devices, hbm):
  found = topology.describe(name)
  assert (len(found.devices), found.hbm_gib) == (devices, hbm)


@pytest.mark.parametrize("name", ["v5e:4x4", "v6e:4x4", "v5p:2x2x4", "v4:2x2x2"])
def test_meshes_that_no_axis_of_the_slice_fits(name):
  """fsdp=8 and tensor=2 on 4x4: an axis of the slice is split between them."""
  devices = topology.describe(name).devices
  for tensor in (1, 2, 4, len(devices)):
    mesh = meshes.make(MeshConfig(data=-1, tensor=tensor), devices)
    assert set(mesh.devices.flat) == set(devices) and mesh.shape["tensor"] == tensor
