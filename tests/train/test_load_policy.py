"""A stored policy without the model that the run started from."""

import json
import shutil

import jax
import numpy as np
import pytest

from gtalign_jax import models
from gtalign_jax.config import Config, PolicyConfig, as_dict
from gtalign_jax.errors import BadInput
from gtalign_jax.models import export, lora, weights
from gtalign_jax.train import checkpoint
from gtalign_jax.train.checkpoint import Checkpoints


def stored(tmp_path, **policy):
  """A work directory with one step of GRPO, and the model folder that it started from."""
  tiny = models.load("random:tiny")
  folder = tmp_path / "model"
  export.save(tiny.config, tiny.params, tiny.tokenizer, folder, eos_ids=(0, 2))
  config = Config(model=str(folder), policy=PolicyConfig(**policy))
  workdir = tmp_path / "run"
  workdir.mkdir()
  (workdir / "config.json").write_text(json.dumps(as_dict(config)))
  params = jax.tree.map(lambda x: x + 1, tiny.params)
  if config.policy.lora_rank:
    params = lora.init(tiny.config, jax.random.key(0), config.policy)
  with Checkpoints(workdir / "checkpoints" / "grpo", keep=1) as checkpoints:
    checkpoints.save(3, {"params": params})
  return workdir, folder, params


def test_no_weights_of_the_start_are_read(tmp_path, monkeypatch):
  workdir, folder, params = stored(tmp_path)
  started = models.load(folder)
  checkpoint.keep_frame(workdir, started.config, started.tokenizer, started.eos_ids)
  checkpoint.keep_frame(workdir, started.config, started.tokenizer, started.eos_ids)
  monkeypatch.setattr(weights, "assemble", lambda *_: pytest.fail("weights were read"))
  for gone in (False, True):
    if gone:
      shutil.rmtree(folder)
    policy = checkpoint.load_policy(workdir)
    jax.tree.map(np.testing.assert_array_equal, policy.params, params)
    assert policy.config == started.config and policy.eos_ids == (0, 2)
    assert policy.tokenizer.chat_template == started.tokenizer.chat_template
  assert not list((workdir / checkpoint.FRAME).glob("*.safetensors"))


def test_a_run_that_kept_no_frame(tmp_path, monkeypatch):
  workdir, folder, params = stored(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(weights, "assemble", lambda *_: pytest.fail("weights were read"))
    jax.tree.map(np.testing.assert_array_equal, checkpoint.load_policy(workdir).params, params)
  shutil.rmtree(folder)
  with pytest.raises(BadInput, match="does not exist; use a Hugging Face directory"):
    checkpoint.load_policy(workdir)


def test_adapters_need_their_base(tmp_path):
  workdir, folder, _ = stored(tmp_path, lora_rank=2)
  base = models.load(folder)
  checkpoint.keep_frame(workdir, base.config, base.tokenizer, base.eos_ids)
  merged = checkpoint.load_policy(workdir).params  # fresh adapters change nothing
  jax.tree.map(np.testing.assert_array_equal, merged, base.params)
  shutil.rmtree(folder)
  with pytest.raises(BadInput, match=r"adapters alone, which need the weights of model=.*model'"):
    checkpoint.load_policy(workdir)
