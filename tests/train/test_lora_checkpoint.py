"""Adapters through a phase's checkpoint and out of `gtalign export`, without a run around them."""

import functools
import json
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.algorithms import optimizer, update
from gtalign_jax.cli import main as cli
from gtalign_jax.config import Config, DataConfig, PolicyConfig, RolloutConfig, as_dict
from gtalign_jax.errors import BadInput
from gtalign_jax.models import decoder, lora
from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.sections import OptimConfig
from gtalign_jax.train import checkpoint, setup, state

HERE = Path(__file__).parent


def loaded(rank, devices=1, param_dtype="float32"):
  """(config, setup, the policy to begin with)."""
  config = Config(
    model="random:tiny",
    policy=PolicyConfig(lora_rank=rank, param_dtype=param_dtype),
    data=DataConfig(root=str(HERE / "short_chains.jsonl"), template="released"),
    rollout=RolloutConfig(prompt_buckets=(256,)),
  )
  mesh = meshes.make(config.mesh, jax.devices()[:devices])
  return config, *setup.load(config, mesh, setup.records(config))


def begun(run, policy, folder):
  """The state that a phase goes on from."""
  optimizers = state.Optimizers(optimizer.make(OptimConfig(), 10))
  with checkpoint.Checkpoints(folder, keep=1) as checkpoints:
    return state.begin(run, policy, optimizers, checkpoints)


def save(workdir, train_state, config):
  (workdir / "config.json").write_text(json.dumps(as_dict(config)))
  with checkpoint.Checkpoints(workdir / "checkpoints" / "grpo", keep=1) as checkpoints:
    checkpoints.save(3, state.stored(train_state))


def trained(train_state):
  """Adapters as after training: B is no longer zero."""
  count = iter(range(1000))
  params = jax.tree.map(
    lambda x: jax.device_put(
      0.1 * jax.random.normal(jax.random.key(next(count)), x.shape), x.sharding
    ),
    train_state.params,
  )
  return train_state._replace(params=params)


def test_adapters_train_in_f32_over_a_base_in_bf16(tmp_path):
  """Adapters, moments and gradients are f32; a step of lr 1e-6, which bf16 would lose, moves them."""
  config, found, policy = loaded(rank=2, param_dtype="bfloat16")
  base = found.fixed.frozen
  assert base["layers"]["q"]["kernel"].dtype == base["embed"]["table"].dtype == jnp.bfloat16
  before = begun(found, policy, tmp_path / "none")
  floats = [x for x in jax.tree.leaves((before.params, before.opt_state)) if x.ndim]
  assert {x.dtype for x in floats} == {jnp.dtype("float32")}
  joined = lambda adapters: lora.join(base, adapters, config.policy)  # noqa: E731
  tokens_BT = jnp.arange(40).reshape(2, 20)

  def loss(adapters):
    at_BT = jnp.broadcast_to(jnp.arange(20), (2, 20))
    inputs = (tokens_BT, at_BT, jnp.ones((2, 20), bool))
    hidden, _ = decoder.forward(found.arch, joined(adapters), *inputs, dtype="bfloat16")
    return hidden.astype(jnp.float32).mean()

  grads = jax.jit(jax.grad(loss))(trained(before).params)
  summed = jax.tree.map(jnp.add, update.zeros(before.params), grads)
  assert {x.dtype for x in jax.tree.leaves((grads, summed))} == {jnp.dtype("float32")}
  made = optimizer.make(OptimConfig(lr=1e-6), 10)
  kept = trained(before)
  after, _ = jax.jit(functools.partial(optimizer.apply, made))(kept, summed)
  moved = jax.tree.map(lambda a, b: float(jnp.mean(a != b)), kept.params, after.params)
  assert min(jax.tree.leaves(moved)) > 0.5


def values(stored):
  """Numbers that a checkpoint holds; its bytes on disk are mostly descriptions and vary between saves."""
  arrays = json.loads((stored / "_METADATA").read_text())["tree_metadata"].values()
  return sum(math.prod(each["value_metadata"].get("write_shape", [0])) for each in arrays)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """(workdir, config, setup, state) of a LoRA run with one checkpoint."""
  workdir = tmp_path_factory.mktemp("lora")
  config, found, policy = loaded(rank=2)
  train_state = trained(begun(found, policy, tmp_path_factory.mktemp("none")))
  save(workdir, train_state, config)
  return workdir, config, found, train_state


def test_a_checkpoint_holds_adapters_only(run, tmp_path):
  workdir = run[0]
  stored = workdir / "checkpoints" / "grpo" / "3" / "state"
  names = set(re.findall(r'"key": "(\w+)"', (stored / "_METADATA").read_text()))
  assert {"params", "mu", "nu", "layers", "lora_a", "lora_b"} <= names
  assert not names & {"kernel", "scale", "table", "embed", "norm", "head"}
  config, found, policy = loaded(rank=0)
  save(tmp_path, begun(found, policy, tmp_path / "none"), config)
  assert 0 < values(stored) < values(tmp_path / "checkpoints" / "grpo" / "3" / "state") / 4


@pytest.mark.parametrize("devices", [1, 2])
def test_a_checkpoint_comes_back_onto_the_mesh_there_is(run, devices):
  workdir, _, _, before = run
  _, found, policy = loaded(rank=2, devices=devices)
  after = begun(found, policy, workdir / "checkpoints" / "grpo")
  jax.tree.map(np.testing.assert_array_equal, before, after)
  assert all(len(x.sharding.device_set) == devices for x in jax.tree.leaves(after))


def test_export_merges_the_adapters(run, tmp_path, capsys):
  workdir, config, found, train_state = run
  out = tmp_path / "out"
  assert cli.main(["export", "--checkpoint", str(workdir), "--out", str(out)]) == 0
  assert capsys.readouterr().out == f"wrote {out}\n"
  exported, base = models.load(out), models.load("random:tiny")
  assert jax.tree.structure(exported.params) == jax.tree.structure(base.params)
  jax.tree.map(
    np.testing.assert_array_equal,
    exported.params,
    lora.merge(found.fixed.frozen, train_state.params, config.policy),
  )
  tokens_BT = jnp.arange(40).reshape(2, 20)
  joined = lora.join(found.fixed.frozen, train_state.params, config.policy)
  wanted = models.Policy(base.config, joined, None, ()).logits(tokens_BT)
  np.testing.assert_allclose(exported.logits(tokens_BT), wanted, atol=1e-4)
  assert np.abs(base.logits(tokens_BT) - wanted).max() > 0.1


@pytest.mark.parametrize(
  ("section", "refused"), [("policy", r"config\.json: policy: unknown key 'old'"), ("grpo", None)]
)
def test_a_run_of_another_version(run, tmp_path, section, refused):
  workdir, config, *_ = run
  (tmp_path / "checkpoints").symlink_to(workdir / "checkpoints")
  nested = as_dict(config)
  nested[section]["old"] = 1  # only what the weights depend on must be known
  (tmp_path / "config.json").write_text(json.dumps(nested))
  if refused:
    with pytest.raises(BadInput, match=refused):
      checkpoint.load_policy(tmp_path)
  else:
    checkpoint.load_policy(tmp_path)
