"""A checkpoint of text and images, written by transformers: logits of text are the same."""

import pytest

pytest.importorskip("torch")

import model_cases
import torch
import torch_reference
import transformers

from gtalign_jax import models
from gtalign_jax.models import decoder

pytestmark = pytest.mark.parity
VISION = {
  "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "image_size": 28,
  "patch_size": 14, "num_attention_heads": 2, "num_hidden_layers": 1, "vision_use_head": False,
}  # fmt: skip


def test_text_of_gemma3(tmp_path):
  text = model_cases.config("gemma3") | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
  config = transformers.Gemma3Config(
    text_config=text, vision_config=VISION, mm_tokens_per_image=4, image_token_index=90,
    boi_token_index=91, eoi_token_index=92,
  )  # fmt: skip
  torch.manual_seed(0)
  made = transformers.Gemma3ForConditionalGeneration(config).float().eval()
  for name, each in made.named_parameters():  # those that start at 0 or 1 would hide mistakes
    if "language_model" in name:
      torch.nn.init.normal_(each, std=0.3 if each.ndim == 1 else 0.2)
  made.save_pretrained(tmp_path)
  model_cases.small_tokenizer().save_pretrained(tmp_path)
  policy = models.load(tmp_path)
  assert policy.config.family == "gemma3_text" and policy.config.windows == (8, 0, 8, 0)
  tokens_BT, positions_BT, mask_BT = model_cases.inputs()
  tokens_BT = tokens_BT % 90  # no images
  hidden_BTD, _ = decoder.forward(policy.config, policy.params, tokens_BT, positions_BT, mask_BT)
  got_BTV = decoder.unembed(policy.config, policy.params, hidden_BTD)
  wanted_BTV = torch_reference.logits(made, tokens_BT, positions_BT, mask_BT)
  assert model_cases.relative_gap(got_BTV, wanted_BTV, mask_BT) < 2e-4
