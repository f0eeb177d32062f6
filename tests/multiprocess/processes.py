"""Several real processes on this machine: jax.distributed, with gloo between their CPU devices."""

import socket
import subprocess

from real_runs import environment


def start(command, count=2, devices=1, **changes):
  """Starts `count` processes of `devices` virtual devices each; stdout and stderr are pipes.

  changes: to their environment.
  """
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  shared = {
    "GTALIGN_COORDINATOR": f"127.0.0.1:{port}",
    "GTALIGN_PROCESSES": str(count),
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
  }
  return [
    subprocess.Popen(
      command,
      env=environment(devices, GTALIGN_PROCESS_ID=str(index), **shared, **changes),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(count)
  ]


def outcome(processes, timeout=240):
  """(exit code, stdout, stderr) of each, when all have ended; kills what has not by then."""
  try:
    said = [process.communicate(timeout=timeout) for process in processes]
  finally:
    for process in processes:
      process.kill()
  return [(process.returncode, *each) for process, each in zip(processes, said, strict=True)]
