"""The desk between clients and lanes: a bounded queue, and the one thread that owns the device."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gtalign_jax.errors import first_line
from gtalign_jax.parallel import programs
from gtalign_jax.rollout.lanes import Asked, Lanes, Written
from gtalign_jax.serve.meters import Meters

log = logging.getLogger(__name__)


class News(NamedTuple):
  """What a row has written since the last. ended: stop | length | None; error: of the device."""

  ids: list[int]
  logps: list[float]
  ended: str | None = None
  error: str | None = None


class Job:
  """A row to sample. tell: called with its news, on the thread of the device.

  head: what its prompt ends with where it goes on from another job, which has written the first
  `kept` tokens of it; only what follows the head is news.
  """

  def __init__(
    self, asked: Asked, tell: Callable[[News], None], head: Sequence[int] = (), kept: int = 0
  ):
    self.asked, self.tell, self.head, self.kept = asked, tell, head, kept
    self.cancelled = False
    self.told = 0  # tokens
    self.since = time.monotonic()


class Full(Exception):
  """No place in the queue. seconds: after which one may be free."""

  def __init__(self, seconds: float):
    super().__init__(seconds)
    self.seconds = seconds


class Desk:
  """Jobs wait here for a lane, each in its turn."""

  def __init__(self, lanes: Lanes, most_waiting: int, meters: Meters):
    """most_waiting: jobs that may wait. Starts the thread, which `close` ends."""
    self.lanes, self.most_waiting, self._meters = lanes, most_waiting, meters
    self.failure: str | None = None
    self._waiting: deque[Job] = deque()
    self._held: dict[int, Job] = {}  # lane -> its job
    self._amended: list[tuple[Job, Job]] = []  # of `go_on`
    self._spent_s = 1.0  # a job in a lane, on average
    self._closing = False
    self._changed = threading.Condition()
    self._thread = threading.Thread(target=self._work, name="lanes", daemon=True)
    self._thread.start()

  def submit(self, jobs: Sequence[Job]) -> None:
    """Puts all jobs into the queue, or none: raises Full."""
    with self._changed:
      room = self.lanes.count - len(self._held) + self.most_waiting - len(self._waiting)
      if len(jobs) > room:
        raise Full(max(1.0, self._spent_s * len(self._waiting) / self.lanes.count))
      self._waiting.extend(jobs)
      self._count()
      self._changed.notify()

  def go_on(self, old: Job, new: Job) -> None:
    """`new` goes on in the lane of `old`, from its head; in a free one where `old` has ended."""
    with self._changed:
      self._amended.append((old, new))
      self._changed.notify()
      failure = self.failure
    if failure is not None:  # nobody would look at it
      new.tell(News([], [], error=failure))

  def cancel(self, job: Job) -> None:
    """Nobody wants the job any more; its lane is free after the segment that runs."""
    with self._changed:
      job.cancelled = True
      if job in self._waiting:
        self._waiting.remove(job)
        self._count()

  def close(self) -> None:
    """Waits until every job that was taken has ended."""
    with self._changed:
      self._closing = True
      self._changed.notify()
    self._thread.join()

  def _count(self) -> None:
    self._meters.waiting.set(len(self._waiting))
    self._meters.busy.set(len(self._held))

  # ---------------------------------------------------------------- on the thread of the device

  def _work(self) -> None:
    try:
      with programs.guarded():  # nothing is compiled for a request, whatever it asks for
        while self._take():
          self._publish()  # the first tokens do not wait for the segment
          if self._held:
            free = self.lanes.count - len(self._held)
            # with somebody waiting, the next lane that is free ends the segment
            self.lanes.run(free + 1 if self._waiting else self.lanes.count + 1)
            self._publish()
    except Exception as error:
      log.exception("the device failed")
      self._fail(first_line(error))

  def _take(self) -> bool:
    """Fills free lanes from the queue; waits while there is nothing to do. False: closed."""
    with self._changed:
      while not (self._waiting or self._held or self._amended):
        if self._closing:
          return False
        self._changed.wait()
      amended, self._amended = self._amended, []
    elsewhere = [new for old, new in amended if not self._amend(old, new)]
    with self._changed:
      self._waiting.extendleft(elsewhere)
      empty = [lane for lane in range(self.lanes.count) if lane not in self._held]
      taken = {lane: self._waiting.popleft() for lane in empty[: len(self._waiting)]}
      self._held |= taken
      self._count()
    if taken:
      self.lanes.fill(list(taken), [job.asked for job in taken.values()])
    return True

  def _amend(self, old: Job, new: Job) -> bool:
    """Lets `new` go on in the lane of `old`; False where that is not to be had."""
    lane = next((lane for lane, job in self._held.items() if job is old), None)
    old.cancelled = True
    if lane is None or not self.lanes.amend(lane, new.head, new.kept, new.asked.number):
      return False
    self._held[lane] = new
    new.told = len(new.head)
    return True

  def _publish(self) -> None:
    """Tells every job what it has written; frees lanes whose row has ended, or is not wanted."""
    written = self.lanes.read()
    over = []
    for lane, job in self._held.items():
      news = _news(written, lane, job)
      if job.cancelled or news.ended:
        over.append(lane)
      if not job.cancelled and (news.ids or news.ended):
        if not job.told and not job.head:
          self._meters.began(time.monotonic() - job.since, len(job.asked.ids))
        self._meters.tokens.labels("completion").inc(len(news.ids))
        job.told += len(news.ids)
        job.tell(news)
    if over:
      self.lanes.free(over, written.done_B)
    with self._changed:
      for lane in over:
        spent = time.monotonic() - self._held.pop(lane).since
        self._spent_s += 0.1 * (spent - self._spent_s)
      self._count()

  def _fail(self, reason: str) -> None:
    with self._changed:
      self.failure = reason
      jobs = [*self._held.values(), *self._waiting, *(new for _, new in self._amended)]
      self._held.clear()
      self._waiting.clear()
      self._count()
    for job in jobs:
      job.tell(News([], [], error=reason))


def _news(written: Written, lane: int, job: Job) -> News:
  new = slice(job.told, int(written.count_B[lane]))
  ended = None
  if written.done_B[lane]:
    ended = "stop" if written.stopped_B[lane] else "length"
  return News(written.tokens_BC[lane, new].tolist(), written.logp_BC[lane, new].tolist(), ended)
