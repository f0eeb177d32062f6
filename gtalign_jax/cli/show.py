"""`gtalign show WORKDIR …`: the report of runs in a browser, live while they train."""

from __future__ import annotations

import argparse
import os
import sys

from gtalign_jax.cli import arguments

PORT = 8600
ARGUMENTS: arguments.Declared = {
  "workdirs": dict(nargs="+", metavar="WORKDIR", help="work directories of runs"),
  "--port": dict(
    type=int, default=PORT, help=f"of this machine alone [{PORT}]; 0: one that is free"
  ),
}


def run(args: argparse.Namespace) -> int:
  """Serves until it is interrupted; exit code 0."""
  arguments.check(args, port=0)
  # the run holds the accelerator; to look at it takes none
  os.environ["JAX_PLATFORMS"] = "cpu"
  from gtalign_jax.train import show

  with show.Server(args.workdirs, args.port) as server:
    text = f"{server.url} shows {', '.join(args.workdirs)}; Ctrl-C ends it\n"
    arguments.show(args, text, {"url": server.url}, alone=True)
    sys.stdout.flush()  # whoever starts it waits for the address
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      return 0
  return 0
