"""After the warm-up nothing is compiled any more, and nothing moves unasked (HOUSE: no surprises)."""

import dataclasses
import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import short_config

from gtalign_jax.config import MeshConfig
from gtalign_jax.parallel import mesh, programs
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
  ("mesh", "lanes", "epochs", "group", "trained"),
  [((1, 1, 1), 2, 1, 4, 2), ((2, 2, 2), 0, 2, 2, 0)],
  ids=["refilled, some trained", "mesh"],
)
def test_steps_compile_nothing(tmp_path, seen, monkeypatch, mesh, lanes, epochs, group, trained):
  devices = jax.devices()[: mesh[0] * mesh[1] * mesh[2]]
  monkeypatch.setattr(jax, "devices", lambda *_: devices)
  config = short_config.config()
  replace = dataclasses.replace
  config = replace(
    config,
    workdir=str(tmp_path),
    mesh=MeshConfig(data=mesh[0], fsdp=mesh[1], tensor=mesh[2]),
    sft=replace(config.sft, steps=6, micro_batch=4, length_bucket=32),
    rollout=replace(config.rollout, prompts_at_once=lanes, segment=12, group_size=group),
    grpo=replace(
      config.grpo,
      inner_epochs=epochs,
      train_samples=trained,
      micro_prompts=4,
      length_buckets=(12,),
      kl_coef=0.01,
      mask_truncated=True,
    ),
  )
  loop.train(config)
  for phase in ("sft", "grpo"):
    lines = [i for i, each in enumerate(seen) if each.startswith(f"{phase:<4} ")]
    first, last = lines[0], lines[-1]
    # the line of a step comes while the next one is under way: step 2 begins before line 1
    between = [each for each in seen[first:last] if each.startswith("!!")]
    assert len(lines) > 3 and not between
  made = [each.split()[1] for each in seen if each.startswith("compiled ")]
  assert {"prefill", "decode", "sft", "take", "score", "grpo", "optimizer"} <= set(made)


def test_a_new_shape_or_an_unasked_move_is_an_error_when_guarded():
  double = programs.Program("double", lambda x: 2 * x)
  small, large = jnp.ones(2), jnp.ones(3)
  double.compile(jax.ShapeDtypeStruct((2,), jnp.float32))
  with programs.guarded():
    np.testing.assert_array_equal(jax.device_get(double(small)), [2, 2])
    with pytest.raises(RuntimeError, match="no_tracing"):
      double(large)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
      double(np.ones(2, np.float32))
  np.testing.assert_array_equal(double(large), [2, 2, 2])


def test_what_is_compiled_is_told_once(seen):
  double = programs.Program("double", lambda x: 2 * x)
  shape = double.compile(jnp.ones((4, 3), jnp.int32), note="small")
  double.compile(jnp.ones((4, 3), jnp.int32))
  assert (shape.shape, shape.dtype) == ((4, 3), jnp.int32)
  told = [each for each in seen if each.startswith("compiled")]
  assert len(told) == 1 and told[0].split()[1:4] == ["double", "4x3,", "small"]


def test_programs_are_made_together_and_once(seen):
  shapes = [jax.ShapeDtypeStruct((n,), jnp.float32) for n in (2, 3, 2, 3, 2)]
  three, meshes_seen = jnp.ones(3), []

  def function(x):
    meshes_seen.append(jax.sharding.get_abstract_mesh().shape_tuple)
    return 2 * x

  double = programs.Program("double", function)
  with jax.set_mesh(mesh.make(MeshConfig(), jax.devices()[:1])):
    programs.together(functools.partial(double.compile, shape) for shape in shapes)
    with programs.guarded():
      np.testing.assert_array_equal(jax.device_get(double(three)), [2, 2, 2])
  assert len([each for each in seen if each.startswith("compiled")]) == 2
  assert len(meshes_seen) == 2 and all(meshes_seen)


def test_a_program_that_cannot_be_made_says_so_each_time():
  broken = programs.Program("broken", lambda x: x @ x)
  task = functools.partial(broken.compile, jax.ShapeDtypeStruct((2, 3), jnp.float32))
  for _ in range(2):
    with pytest.raises(TypeError, match="dot_general"):
      programs.together([task, task])
