"""The program table: what a run compiles, described once, for warm-up, planning and the loop.

A table is a generator of `Program`s in the order in which they feed each other:

    def table(shapes):
      hidden = yield Program("encode", encode, (shapes.params, shapes.tokens))
      yield Program("decode", decode, (shapes.params, hidden), donated=(1,))

Each `yield` gives back the program's results as shapes with shardings, to describe what follows.
`Executables.compile` runs tables to warm up, train/plan.py runs the same ones on devices that need
not exist, and the loop calls what was compiled by name. A new program is one more `yield`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

log = logging.getLogger(__name__)
WORKERS = 2  # programs compiled at a time; the compiler keeps little more than one core busy
Key = tuple[str | int, ...]


class Program(NamedTuple):
  """One entry of a table.

  name: what it is called. function: pure. args: abstract arguments, a tuple of pytrees of arrays or
  of ShapeDtypeStructs with shardings. variant: numbers that tell it from others of its name
  (padded lengths, slots). donated: arguments whose buffers the results may take. out_shardings:
  where results go (None: the compiler decides). resident: what else lies on the devices while it
  runs (for `gtalign plan`). flops: model FLOPs over all devices (for `gtalign plan`).
  """

  name: str
  function: Callable[..., Any]
  args: tuple[Any, ...]
  variant: tuple[int, ...] = ()
  donated: tuple[int, ...] = ()
  out_shardings: Any = None
  resident: Any = ()
  flops: float = 0.0

  @property
  def key(self) -> Key:
    """What the loop calls it by."""
    return (self.name, *self.variant)

  def lower(self) -> jax.stages.Lowered:
    """Traces the function for the abstract arguments; call it with the mesh set."""
    jitted = jax.jit(self.function, donate_argnums=self.donated, out_shardings=self.out_shardings)
    return jitted.lower(*self.args)


Table = Generator[Program, Any, Any]  # what one returns is for a table that embeds it


class Executables:
  """Compiled programs of one mesh, called by name: `programs["decode", 256](…)`.

  A name that no table has described is a KeyError: nothing is compiled in passing.
  """

  def __init__(self, mesh: Mesh):
    self.mesh = mesh
    self._made: dict[Key, Future[jax.stages.Compiled]] = {}
    self._lock = threading.Lock()

  def __getitem__(self, key: str | Key) -> jax.stages.Compiled:
    return self._made[(key,) if isinstance(key, str) else key].result()

  def __contains__(self, key: str | Key) -> bool:
    return ((key,) if isinstance(key, str) else key) in self._made

  def compile(self, tables: Iterable[Table]) -> None:
    """Compiles what the tables describe and is not there yet; raises the first error.

    Tables are worked on side by side where there is one process; several must ask for their
    programs in the same order, or each would wait for another's collective.
    """
    with ThreadPoolExecutor(WORKERS if jax.process_count() == 1 else 1) as pool:
      for _ in pool.map(self._run, tables):
        pass

  def _run(self, table: Table) -> None:
    with jax.set_mesh(self.mesh):  # a setting of the thread
      run(table, lambda program: results(self._find(program)))

  def _find(self, program: Program) -> jax.stages.Compiled:
    with self._lock:
      mine = program.key not in self._made
      made = self._made.setdefault(program.key, Future())
    if mine:
      try:
        made.set_result(_compile(program))
      except BaseException as error:
        del self._made[program.key]  # asked for again, it says so again
        made.set_exception(error)
        raise
    return made.result()


def _compile(program: Program) -> jax.stages.Compiled:
  began = time.perf_counter()
  compiled = program.lower().compile()
  name = " ".join(map(str, program.key))
  log.info("compiled %-28s %5.1f s", name, time.perf_counter() - began)
  return compiled


def run(table: Table, make: Callable[[Program], Any]) -> None:
  """Runs a table: `make` gets each program and returns its results as shapes.

  Where it returns None the table ends: what would follow cannot be described.
  """
  with contextlib.closing(table):
    program = next(table, None)
    while program is not None:
      shapes = make(program)
      if shapes is None:
        return
      try:
        program = table.send(shapes)
      except StopIteration:
        return


def results(compiled: jax.stages.Compiled) -> Any:
  """What an executable returns, as shapes with the shardings that the compiler chose."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    compiled.out_info,
    compiled.output_shardings,
  )


def abstract(tree: Any) -> Any:
  """Arrays as shapes with their shardings, to describe a program that will get such arrays."""
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
  """On this thread nothing is traced, and nothing moves between host and device unasked."""
  with jax.no_tracing(True), jax.transfer_guard("disallow"):
    yield
