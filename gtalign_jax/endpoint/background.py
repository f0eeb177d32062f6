"""An event loop on a thread of its own, for code that is called from anywhere."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
CLOSING_S = 5.0  # for tasks to end once they are cancelled


class Loop:
  """Runs coroutines until closed; connections stay open from one to the next."""

  def __init__(self) -> None:
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="endpoint")
    self._thread.start()

  def run(self, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. An interrupt of the caller ends it, too."""
    future = asyncio.run_coroutine_threadsafe(work, self._loop)
    try:
      return future.result()
    except BaseException:  # KeyboardInterrupt as well: nobody waits for the rest any more
      future.cancel()
      raise

  def close(self, last: Coroutine[Any, Any, None]) -> None:
    """Ends all work that is under way, then `last` (which closes connections), then the loop."""
    if self._loop.is_closed():
      last.close()
      return
    with contextlib.suppress(TimeoutError):
      asyncio.run_coroutine_threadsafe(self._end(last), self._loop).result(timeout=CLOSING_S)
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join(timeout=CLOSING_S)
    if not self._loop.is_running():
      self._loop.close()

  async def _end(self, last: Coroutine[Any, Any, None]) -> None:
    # a task that a closed loop leaves pending complains on the terminal when it is collected
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
      task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await last
    await asyncio.get_running_loop().shutdown_default_executor()
