"""Rollout of Hugging Face `generate` on the work of `gtalign bench`; run by compare.py.

python hf_generate.py MODEL_DIR WORK_JSON      (an environment with torch and transformers)
"""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main():
  model_dir, work = sys.argv[1], json.loads(sys.argv[2])
  torch.manual_seed(0)
  model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=getattr(torch, work["dtype"]))
  shape = (work["prompts"], work["prompt_tokens"])
  ids = torch.randint(10, model.config.vocab_size - 10, shape).repeat_interleave(
    work["group_size"], 0
  )
  seconds = []
  for _ in range(1 + work["repeats"]):
    began = time.perf_counter()
    with torch.no_grad():
      out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        min_new_tokens=work["new_tokens"],
        max_new_tokens=work["new_tokens"],
        pad_token_id=0,
      )
    seconds.append(time.perf_counter() - began)
    assert out.shape[1] == work["prompt_tokens"] + work["new_tokens"]
  tokens = ids.shape[0] * work["new_tokens"]
  print(json.dumps({"rollout_s": seconds[1:], "rollout_tokens_per_s": tokens / min(seconds[1:])}))


main()
