"""The program table: compiled once, called by name, and nothing compiled or moved in passing."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.parallel import mesh as meshes
from gtalign_jax.parallel import programs
from gtalign_jax.parallel.programs import Executables, Program
from gtalign_jax.sections import MeshConfig


def shape(*sizes):
  return jax.ShapeDtypeStruct(sizes, jnp.float32)


def made():
  return Executables(meshes.make(MeshConfig(), jax.devices()[:1]))


def chain(size, seen=None):
  """Two programs, the second of which is described by the first one's results."""
  outer = yield Program("outer", lambda x: x[:, None] * x, (shape(size),), variant=(size,))
  assert outer.shape == (size, size) and outer.sharding is not None
  if seen is not None:
    seen.append(jax.sharding.get_abstract_mesh().shape_tuple)
  yield Program("total", jnp.sum, (outer,), variant=(size,), donated=())


def test_results_describe_what_follows_and_calls_are_by_name():
  compiled, seen = made(), []
  compiled.compile([chain(2, seen), chain(3, seen)])
  two = jnp.arange(2.0)
  with programs.guarded():
    outer = compiled["outer", 2](two)
    total = compiled["total", 2](outer)
  np.testing.assert_array_equal(jax.device_get(outer), [[0, 0], [0, 1]])
  assert float(total) == 1 and ("total", 3) in compiled and ("total", 4) not in compiled
  assert len(seen) == 2 and all(seen)  # tables are run with the mesh set, on whatever thread


def test_a_new_shape_or_an_unasked_move_is_an_error():
  compiled = made()
  compiled.compile([chain(2)])
  with pytest.raises(KeyError):
    compiled["outer", 3]
  with pytest.raises(TypeError, match="float32\\[3\\]"):
    compiled["outer", 2](jnp.ones(3))
  with programs.guarded():
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
      compiled["outer", 2](np.ones(2, np.float32))
    with pytest.raises(RuntimeError, match="no_tracing"):
      jax.jit(lambda x: x + 17)(jnp.ones(2))


def test_each_program_is_compiled_and_told_once(caplog):
  caplog.set_level(logging.INFO)
  compiled = made()
  compiled.compile([chain(2), chain(3), chain(2)])
  compiled.compile([chain(3)])
  told = [" ".join(message.split()[1:3]) for message in caplog.messages]
  assert sorted(told) == ["outer 2", "outer 3", "total 2", "total 3"]


def test_a_program_that_cannot_be_made_says_so_each_time():
  compiled = made()

  def broken():
    yield Program("broken", lambda x: x @ x, (shape(2, 3),))

  for _ in range(2):
    with pytest.raises(TypeError, match="dot_general"):
      compiled.compile([broken(), broken()])


def test_a_table_ends_where_results_are_unknown():
  names = []
  programs.run(chain(2), lambda program: names.append(program.name))
  assert names == ["outer"]


def test_a_table_that_embeds_another_gets_what_it_returns():
  def inner():
    doubled = yield Program("double", lambda x: 2 * x, (shape(2),))
    return doubled

  def outer():
    doubled = yield from inner()
    yield Program("square", lambda x: x * x, (doubled,))

  compiled = made()
  compiled.compile([outer()])
  assert "square" in compiled and "double" in compiled
