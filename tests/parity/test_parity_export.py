"""import -> export -> transformers gives the same logits, for every family and option."""

import pytest

pytest.importorskip("torch")

import model_cases
import torch_reference

from gtalign_jax.models import decoder, export, tokenizer

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", model_cases.CASES)
def test_exported_logits(name, tmp_path):
  arch, params = model_cases.build(name)
  made = tokenizer.tiny()
  out = export.save(arch, params, made, tmp_path / "out", eos_ids=[2, 0], shard_bytes=60_000)
  model = torch_reference.directory_model(out)
  inputs = model_cases.inputs()
  hidden_BTD, _ = decoder.forward(arch, params, *inputs)
  got_BTV = decoder.unembed(arch, params, hidden_BTD)
  wanted_BTV = torch_reference.logits(model, *inputs)
  assert model_cases.relative_gap(got_BTV, wanted_BTV, inputs[2]) < 2e-4
  assert model.generation_config.eos_token_id == [0, 2]
