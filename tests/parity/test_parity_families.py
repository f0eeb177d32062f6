"""Logits of every family and option against transformers on torch, f32."""

import pytest

pytest.importorskip("torch")

import model_cases
import torch_reference

from gtalign_jax.models import decoder

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4  # of the largest logit


@pytest.fixture(params=model_cases.CASES)
def case(request):
  arch, params = model_cases.build(request.param)
  config = model_cases.config(request.param)
  model = torch_reference.model_of(config, model_cases.state_dict(arch))
  wanted_BTV = torch_reference.logits(model, *model_cases.inputs())
  return arch, params, wanted_BTV


def test_logits_with_left_and_right_padding(case):
  arch, params, wanted_BTV = case
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()
  hidden_BTD, _ = decoder.forward(arch, params, tokens_BT, positions_BT, mask_BT)
  got_BTV = decoder.unembed(arch, params, hidden_BTD)
  assert model_cases.relative_gap(got_BTV, wanted_BTV, mask_BT) < TOLERANCE


def test_logits_through_the_cache(case):
  """Prefill of 20 tokens, the rest one by one."""
  arch, params, wanted_BTV = case
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()
  got_BTV = model_cases.through_cache(arch, params, tokens_BT, positions_BT, mask_BT, prefill=20)
  assert model_cases.relative_gap(got_BTV, wanted_BTV[:, 20:], mask_BT[:, 20:]) < TOLERANCE
