"""Programs compiled once for all runs of a test file.

Equal functions with equal static arguments, compiled for arguments of equal shapes and places, are
the same program; a run in the tests takes most of its time to trace and compile what another run
of the same file has compiled before.
"""

import contextlib
import functools
from unittest import mock

import jax
from jax._src import config

from gtalign_jax.parallel import programs


def described(leaf):
  """What a program is compiled for: not the numbers of an array, but its kind and its place."""
  if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
    sharding = getattr(leaf, "sharding", None)
    return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False), sharding
  return leaf


def key(program):
  """Equal for programs that are compiled to the same."""
  function = program.function
  if isinstance(function, functools.partial):
    function = (function.func, function.args, tuple(sorted(function.keywords.items())))
  leaves, tree = jax.tree.flatten((program.args, program.out_shardings))
  # the mesh, and every setting of jax that changes what is traced
  return function, program.donated, tree, tuple(map(described, leaves)), config.trace_context()


@contextlib.contextmanager
def shared():
  """Runs that begin in this block share their programs; these are forgotten at its end."""
  made, compile_one = {}, programs._compile

  def once(program):
    name = key(program)
    try:
      known = name in made
    except TypeError:  # not hashable, so nobody can say what it equals
      return compile_one(program)
    if not known:
      made[name] = compile_one(program)
    return made[name]

  with mock.patch.object(programs, "_compile", once):
    yield
