"""One step of TRL's GRPOTrainer on the work of `gtalign bench`; run by compare.py.

python trl_step.py MODEL_DIR WORK_JSON      (an environment with torch, transformers and trl)
"""

import json
import random
import resource
import sys
import tempfile
import time

import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Watch(TrainerCallback):
  def __init__(self):
    self.seconds = []

  def on_step_begin(self, *args, **kwargs):
    self.began = time.perf_counter()

  def on_step_end(self, *args, **kwargs):
    self.seconds.append(time.perf_counter() - self.began)


def main():
  model_dir, work = sys.argv[1], json.loads(sys.argv[2])
  tokenizer = AutoTokenizer.from_pretrained(model_dir)
  rng = random.Random(0)
  words = [w for w in tokenizer.get_vocab() if w.startswith("Ġ") and w[1:].isalpha()]
  texts = []
  for _ in range(64):
    ids = tokenizer(" ".join(rng.choices(words, k=400)).replace("Ġ", ""))["input_ids"]
    texts.append(tokenizer.decode(ids[: work["prompt_tokens"]]))
  watch = Watch()
  config = GRPOConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=work["group_size"],  # all rows at once need more than 24 GB
    gradient_accumulation_steps=work["prompts"],  # generation still takes all rows at once
    num_generations=work["group_size"],
    max_completion_length=work["new_tokens"],
    generation_kwargs={"min_new_tokens": work["new_tokens"]},
    max_steps=1 + work["repeats"],
    beta=0.0,
    learning_rate=1e-6,
    save_strategy="no",
    report_to=[],
    use_cpu=True,
    bf16=work["dtype"] == "bfloat16",
    gradient_checkpointing=False,
    model_init_kwargs={"dtype": getattr(torch, work["dtype"])},
  )
  GRPOTrainer(
    model=model_dir,
    args=config,
    train_dataset=Dataset.from_dict({"prompt": texts}),
    reward_funcs=lambda completions, **_: [float(i % 2) for i in range(len(completions))],
    callbacks=[watch],
  ).train()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
  print(json.dumps({"step_s": watch.seconds[1:], "peak_rss_mib": peak}))


main()
