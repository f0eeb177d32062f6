"""One of several processes that try out `parallel.distributed`; the last line says which checks ran."""

import json
import logging
import os
import signal
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gtalign_jax.parallel import distributed, mesh, sharding

distributed.initialize()
me, count, devices = jax.process_index(), jax.process_count(), jax.devices()
done = []

# Rows come back in their order however a mesh places them: split over the processes, mixed between them, or
# (tensor parallelism over all devices) on every one of them.
meshes = {
  "split": (devices, (4, 1, 1)),
  "mixed": ([devices[index] for index in (3, 0, 2, 1)], (2, 2, 1)),
  "half": (devices, (2, 1, 2)),
  "everywhere": (devices, (1, 1, 4)),
}
for name, (order, shape) in meshes.items():
  made = Mesh(np.array(order).reshape(shape), mesh.AXES, axis_types=(AxisType.Auto,) * 3)
  rows = sharding.sharding(made, ("batch",))
  whole = {"tokens": np.arange(24).reshape(8, 3), "length": np.arange(8, dtype=np.int32)}
  put = distributed.to_device(whole, {key: rows for key in whole})
  twice = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree))(put)
  for key, array in whole.items():
    np.testing.assert_array_equal(distributed.to_host(twice[key]), 2 * array)
  done.append(name)

# Each row is one process's, uneven shares too, and all get all of them in order.
for rows in (8, 5, 1):
  mine = distributed.share(rows)
  texts = [{"row": row, "by": me, "text": "\udc00é" * row} for row in range(rows)[mine]]
  everyone = distributed.gather_rows(texts)
  assert [each["row"] for each in everyone] == list(range(rows))
  assert sorted({each["by"] for each in everyone}) == list(range(count))[-rows:]
  assert all(each["text"] == "\udc00é" * each["row"] for each in everyone)
done.append("shares")

assert distributed.agree(me == 0) is True and distributed.agree(me != 0) is False
assert distributed.is_main() == (me == 0)
expected = "judge.sqlite" if me == 0 else f"judge.{me}.sqlite"
assert distributed.own_file(Path("/x/judge.sqlite")) == Path("/x") / expected
level = logging.getLogger("gtalign_jax").level
assert level == (logging.NOTSET if me == 0 else logging.WARNING)
done.append("main")

# A signal to one process ends all of them, after the same step.
with distributed.Interrupts() as interrupts:
  try:
    for step in range(5):
      if step == 2 and me == count - 1:
        os.kill(os.getpid(), signal.SIGTERM)
      interrupts.check()
  except KeyboardInterrupt:
    done.append(f"interrupted in step {step}")

print(json.dumps(done))
