"""Jitted functions whose executables are made before they are needed, and whose making is told.

After the warm-up a loop runs `guarded`: a shape that was not compiled beforehand, or a transfer that
nobody asked for, is then an error and not a silent wait.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

log = logging.getLogger(__name__)
LONG = 2.0  # seconds of compilation outside a warm-up that are worth a line: somebody is waiting
AT_ONCE = 2  # programs in the making; the compiler keeps little more than one core busy with one


class Program:
  """A jitted function that keeps one executable per shape and layout of its arguments.

  options: of `jax.jit`; static arguments are passed by name. Calling it with a new shape compiles, as
  jit would.
  """

  def __init__(self, name: str, function: Callable[..., Any], **options: Any):
    self.name = name
    self._jitted = jax.jit(function, **options)
    self._made: dict[Any, Future[Any]] = {}
    self._lock = threading.Lock()

  def lower(self, *args: Any, **static: Any) -> Any:
    """`jax.jit(…).lower`."""
    return self._jitted.lower(*args, **static)

  def compile(self, *args: Any, note: str = "", **static: Any) -> Any:
    """Makes the executable for `args` (arrays or shapes with shardings), if there is none yet.

    Returns the result as shapes with shardings, to compile what follows. note: what tells this shape
    from others, where the sizes of the integer arrays do not.
    """
    return results(self._find(args, static, 0.0, note))

  def __call__(self, *args: Any, **static: Any) -> Any:
    return self._find(args, static, LONG)(*args)

  def _find(self, args: Any, static: dict[str, Any], worth: float, note: str = "") -> Any:
    """The executable; making it is told if it took `worth` seconds."""
    key = _key(args, static)
    made = self._made.get(key)
    if made is not None:
      return made.result()
    with self._lock:
      mine = key not in self._made
      made = self._made.setdefault(key, Future())
    if mine:
      began = time.perf_counter()
      try:
        made.set_result(self.lower(*args, **static).compile())
      except BaseException as error:
        del self._made[key]
        made.set_exception(error)
        raise
      took = time.perf_counter() - began
      if took >= worth:
        about = ", ".join(filter(None, (_sizes(args), note)))
        log.info("compiled %-16s %-28s %5.1f s", self.name, about, took)
    return made.result()


def together(tasks: Iterable[Callable[[], None]]) -> None:
  """Runs tasks that compile, `AT_ONCE` of them at a time; raises the first error.

  One after the other where there are several processes: each should ask for its programs in the same order.
  """
  mesh = jax.sharding.get_mesh()  # of this thread

  def on_mesh(task: Callable[[], None]) -> None:
    with contextlib.nullcontext() if mesh.empty else jax.set_mesh(mesh):
      task()

  with ThreadPoolExecutor(AT_ONCE if jax.process_count() == 1 else 1) as pool:
    for _ in pool.map(on_mesh, tasks):
      pass


def results(executable: Any) -> Any:
  """What an executable returns, as shapes with the shardings that the compiler chose."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    executable.out_info,
    executable.output_shardings,
  )


def _key(args: Any, static: dict[str, Any]) -> Any:
  leaves, tree = jax.tree.flatten(args)
  return tree, tuple(map(_leaf, leaves)), tuple(static.items())


def _leaf(x: Any) -> Any:
  """Shape, dtype and the shape of one device's part; host arrays count as whole on each device."""
  sharding = getattr(x, "sharding", None)
  shape = np.shape(x)
  part = shape if sharding is None else sharding.shard_shape(shape)
  return shape, x.dtype, part


def _sizes(args: Any) -> str:
  """The shapes that tell one compilation of a program from another: those of integer arrays."""
  found = [x.shape for x in jax.tree.leaves(args) if np.ndim(x) > 1 and x.dtype == np.int32]
  return ", ".join("x".join(map(str, shape)) for shape in dict.fromkeys(found))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
  """Inside it, on this thread, nothing is traced and nothing moves between host and device unasked."""
  with jax.no_tracing(True), jax.transfer_guard("disallow"):
    yield
