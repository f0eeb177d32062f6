"""The real SmolLM2-135M-Instruct against transformers reading the same GGUF file, and its export."""

# ruff: noqa: E402 (torch and the path come first)

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import model_cases
import torch_reference

from gtalign_jax import models
from gtalign_jax.errors import BadInput
from gtalign_jax.models import export, locate

pytestmark = pytest.mark.parity
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(scope="module")
def policy():
  try:
    return models.load(NAME)
  except BadInput as error:
    pytest.skip(str(error))


def torch_logits(model):
  with torch.no_grad():
    return model(torch.tensor([model_cases.STORY_IDS])).logits.numpy()


def test_logits_and_greedy_tokens(policy):
  path = locate.locate(NAME)
  if path.suffix != ".gguf":
    pytest.skip(f"{NAME} comes from {path}, not from a GGUF file")
  model = torch_reference.gguf_model(path)
  wanted_BTV = torch_logits(model)
  got_BTV = policy.logits([model_cases.STORY_IDS])
  assert model_cases.relative_gap(got_BTV, wanted_BTV) < 2e-4
  ids_T = np.asarray(model_cases.STORY_IDS, np.int32)
  tokens, _ = model_cases.greedy(policy.config, policy.params, ids_T, 64)
  assert tokens.tolist() == torch_reference.greedy(model, model_cases.STORY_IDS, 64)


def test_export_loads_in_transformers(policy, tmp_path):
  out = export.save(
    policy.config, policy.params, policy.tokenizer, tmp_path / "out",
    eos_ids=policy.eos_ids, shard_bytes=200 * 2**20,
  )  # fmt: skip
  assert len(list(out.glob("model-*-of-*.safetensors"))) == 3
  model = torch_reference.directory_model(out)
  got_BTV = policy.logits([model_cases.STORY_IDS])
  assert model_cases.relative_gap(got_BTV, torch_logits(model)) < 2e-4
