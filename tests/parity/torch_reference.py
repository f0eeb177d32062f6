"""The same models in transformers on torch, for tests of this folder."""

import numpy as np
import torch
import transformers

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)  # two threads on two busy cores took 11x as long: they spin for each other


def model_of(config, tensors):
  """An f32 CausalLM with these tensors; every tensor must find its place."""
  settings = {k: v for k, v in config.items() if k != "model_type"}
  settings |= {"attn_implementation": "eager", "dtype": torch.float32}
  settings |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
  made = transformers.AutoConfig.for_model(config["model_type"], **settings)
  model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager")
  state = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
  missing, unexpected = model.load_state_dict(state, strict=False)
  tied = {"lm_head.weight"} if made.tie_word_embeddings else set()
  assert set(missing) <= tied and not unexpected, (missing, unexpected)
  model.tie_weights()
  return model.float().eval()


def logits(model, tokens_BT, positions_BT, mask_BT):
  """f32 logits [B, T, V]."""
  with torch.no_grad():
    out = model(
      input_ids=torch.from_numpy(tokens_BT).long(),
      attention_mask=torch.from_numpy(mask_BT.astype(np.int64)),
      position_ids=torch.from_numpy(positions_BT).long(),
      use_cache=False,
    )
  return out.logits.float().numpy()


def gguf_model(path):
  """What transformers makes of a GGUF file, f32."""
  model = transformers.AutoModelForCausalLM.from_pretrained(
    str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
  )
  return model.eval()


def greedy(model, ids, count):
  """`count` greedy tokens after the prompt, whatever they are."""
  with torch.no_grad():
    out = model.generate(
      torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None, pad_token_id=0
    )
  return out[0, len(ids) :].tolist()


def directory_model(path):
  """What transformers makes of an exported directory, f32."""
  return transformers.AutoModelForCausalLM.from_pretrained(
    str(path), dtype=torch.float32, attn_implementation="eager"
  ).eval()
