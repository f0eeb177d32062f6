"""A server in a thread on a port of its own, and lanes that a script writes into."""

import contextlib
import signal
import threading
import time

import numpy as np
from scripted import tokenizer

from gtalign_jax.rollout.lanes import Written
from gtalign_jax.sections import DataConfig
from gtalign_jax.serve import server
from gtalign_jax.serve.choice import Model

OPTIONS = server.Options("127.0.0.1", 0, queue=4)


@contextlib.contextmanager
def serving(lanes, made, options=OPTIONS, key=None):
  """(base URL, service) of a server of these lanes; made: its Model."""
  data, up = DataConfig(template="released", root="unused"), threading.Event()
  with (
    server.listen(options.host, options.port) as bound,
    server.opened(lanes, made, data, options, key) as service,
  ):
    running = server.server(service, options.origins, up.set)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    assert up.wait(30)
    try:
      yield server.address(options.host, bound), service
    finally:
      if not service.closing:
        running.handle_exit(signal.SIGINT, None)
      thread.join(30)
      assert not thread.is_alive()


def model(**changes):
  """The Model of the tiny tokenizer."""
  pieces = server.token_bytes(tokenizer(), 320)
  fields = dict(name="tiny", pieces=pieces, spaced=False, eos_ids=(2,), longest=1024, budget=900)
  return Model(tokenizer=tokenizer(), **fields | changes)


class ScriptedLanes:
  """Lanes whose rows a function writes: write(ids of the prompt, number) -> ids, without the EOS.

  A segment is eight tokens and waits for `gate`; asked: of every row, in order.
  """

  def __init__(self, write, count=3, budget=900, segment_s=0.0):
    self.write, self.count, self.segment_s, self.asked = write, count, segment_s, []
    self.gate = threading.Event()
    self.gate.set()
    self.prompts, self._budgets = [()] * count, [0] * count
    self.amended = 0
    self._rows = [np.zeros(0, np.int32)] * count
    self._at = np.zeros(count, np.int32)
    self._most = np.zeros(count, np.int32)
    self.tokens_BC = np.zeros((count, budget), np.int32)

  def fill(self, lanes, asked):
    for lane, each in zip(lanes, asked, strict=True):
      self.asked.append(each)
      self._rows[lane] = np.asarray([*self.write(each.ids, each.number), 2], np.int32)
      self.prompts[lane], self._budgets[lane] = each.ids, each.budget
      self._at[lane], self._most[lane] = 1, min(each.budget, len(self._rows[lane]))
      row = self._rows[lane][: self.tokens_BC.shape[1]]
      self.tokens_BC[lane, : len(row)] = row

  def amend(self, lane, head, kept, number):
    assert list(head[:kept]) == self.tokens_BC[lane, :kept].tolist() and kept < self._at[lane]
    self.amended += 1
    self._rows[lane] = np.asarray([*head, *self.write([*self.prompts[lane], *head], number), 2])
    self._at[lane], self._most[lane] = (
      len(head) + 1,
      min(self._budgets[lane], len(self._rows[lane])),
    )
    self.tokens_BC[lane, : len(self._rows[lane])] = self._rows[lane]
    return True

  def run(self, min_free):
    assert self.gate.wait(30)
    time.sleep(self.segment_s)
    self._at = np.minimum(self._at + 8, self._most)

  def read(self):
    done_B = self._at >= self._most
    stopped_B = done_B & (self._at == [len(row) for row in self._rows])
    logp_BC = np.full(self.tokens_BC.shape, -0.5, np.float32)
    return Written(self.tokens_BC.copy(), logp_BC, self._at.copy(), done_B, stopped_B)

  def free(self, lanes, done_B):
    self._at[list(lanes)] = self._most[list(lanes)]
