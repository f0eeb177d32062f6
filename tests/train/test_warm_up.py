"""After the warm-up nothing is compiled any more, and nothing moves unasked (HOUSE: no surprises)."""

import dataclasses
import logging
import re

import jax
import pytest
import short_config

from gtalign_jax.config import MeshConfig
from gtalign_jax.train import loop

COMPILE = "/jax/core/compile/backend_compile_duration"


class Seen(logging.Handler):
  """Terminal lines and compilations of a run, in the order in which they came."""

  def __init__(self):
    super().__init__()
    self.events = []

  def emit(self, record):
    self.events.append(record.getMessage())

  def heard(self, event, seconds, **about):
    if event == COMPILE:
      self.events.append(f"!! {about.get('fun_name')}")


@pytest.fixture
def seen():
  handler, logger = Seen(), logging.getLogger("gtalign_jax")
  before = logger.level
  logger.addHandler(handler)
  logger.setLevel(logging.INFO)
  jax.monitoring.register_event_duration_secs_listener(handler.heard)
  yield handler.events
  jax.monitoring.unregister_event_duration_listener(handler.heard)
  logger.removeHandler(handler)
  logger.setLevel(before)


@pytest.mark.slow
@pytest.mark.parametrize(
  ("mesh", "slots", "group", "changes"),
  [
    ((1, 1, 1), 2, 4, {"train_samples": 2, "minibatch_prompts": 2, "advantage": "gae"}),
    ((2, 2, 2), 0, 2, {"inner_epochs": 2, "micro_prompts": 4}),
  ],
  ids=["refilled, some trained, by a critic", "mesh"],
)
def test_steps_compile_nothing(tmp_path, seen, monkeypatch, mesh, slots, group, changes):
  devices = jax.devices()[: mesh[0] * mesh[1] * mesh[2]]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  config = short_config.config()
  replace = dataclasses.replace
  config = replace(
    config,
    workdir=str(tmp_path),
    mesh=MeshConfig(data=mesh[0], fsdp=mesh[1], tensor=mesh[2]),
    sft=replace(config.sft, steps=6, micro_batch=4, length_bucket=32),
    rollout=replace(config.rollout, prompts_at_once=slots, segment=12, group_size=group),
    grpo=replace(
      config.grpo,
      **changes,
      length_buckets=(12,),
      kl_coef=0.01,
      mask_truncated=True,
    ),
  )
  loop.train(config)
  for phase in ("sft", "grpo"):
    lines = [i for i, each in enumerate(seen) if re.match(rf"{phase} \d+/\d+  ", each)]
    first, last = lines[0], lines[-1]
    # the line of a step comes while the next one is under way: step 2 begins before line 1
    between = [each for each in seen[first:last] if each.startswith("!!")]
    assert len(lines) > 3 and not between
  made = [each.split()[1] for each in seen if each.startswith("compiled ")]
  assert {
    "prefill",
    "decode",
    "sft_accumulate",
    "take",
    "put",
    "score_policy",
    "score_reference",
    "accumulate",
    "apply",
  } <= set(made)
