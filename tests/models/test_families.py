"""Logits of every family and option against those that torch computed (tests/parity/make_golden.py)."""

import dataclasses
from pathlib import Path

import model_cases
import numpy as np
import pytest

from gtalign_jax.models import decoder
from gtalign_jax.models.variants import FAMILIES, Rope

GOLDEN = Path(__file__).parent.parent / "golden" / "models" / "families.npz"


def logits(arch, params):
  hidden_BTD, _ = model_cases.forward(arch, params, *model_cases.inputs())
  return np.asarray(decoder.unembed(arch, params, hidden_BTD[:, np.array(model_cases.KEPT)]))


@pytest.fixture(scope="module")
def golden():
  return np.load(GOLDEN)


@pytest.mark.parametrize("name", model_cases.CASES)
def test_logits_equal_torch(name, golden):
  arch, params = model_cases.build(name)
  real = model_cases.inputs()[2][:, np.array(model_cases.KEPT)]
  assert model_cases.relative_gap(logits(arch, params), golden[name], real) < 2e-4


def test_every_family_has_a_case():
  assert {model_cases.config(name)["model_type"] for name in model_cases.CASES} == set(FAMILIES)


# A trait and a case that has it: the case's logits must notice when the trait is taken away.
TRAITS = [
  ("llama3", {"rope": Rope()}),
  ("llama3", {"rope": Rope(kind="linear", factor=4.0)}),
  ("llama_linear_mqa_tied", {"rope": Rope()}),
  ("smollm2", {"rope": Rope()}),
  ("qwen2_window", {"windows": (0, 0, 0)}),
  ("qwen3_bias_window", {"windows": (8, 8, 8)}),
  ("mistral", {"windows": (9, 9, 9)}),
  ("gemma3", {"local_rope": None}),
  ("gemma3", {"rope": Rope(theta=1e6)}),
  ("gemma3", {"query_scalar": 0}),
  ("gemma3", {"embed_scale": 1.0}),
  ("gemma3", {"norm_offset": 0.0}),
  ("gemma3", {"activation": "silu"}),
  ("gemma3_pattern_softcap", {"softcap": None}),
  ("qwen3", {"norm_eps": 1e-2}),
]


@pytest.mark.parametrize("name, change", TRAITS, ids=lambda x: x if isinstance(x, str) else str(x))
def test_golden_logits_notice_every_trait(name, change, golden):
  arch, params = model_cases.build(name)
  gap = model_cases.relative_gap(logits(dataclasses.replace(arch, **change), params), golden[name])
  assert gap > 2e-3
