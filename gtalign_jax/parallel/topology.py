"""Device slices that programs are compiled for without having them: TPU by libtpu, CPU by jax.

A topology is written `v5e:4x4` (generation and chips along each axis of the torus) or `cpu:8`
(virtual CPU devices, for trying things out and for tests).
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import re
from typing import NamedTuple

import jax
from jax.experimental import topologies

from gtalign_jax.errors import BadInput, first_line

# generation -> HBM of one chip in GiB (Cloud TPU documentation, system architecture)
HBM_GIB = {"v4": 32.0, "v5e": 16.0, "v5p": 95.0, "v6e": 32.0}
# v4 and v5p are wired in three dimensions, v5e and v6e in two
_AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
# libtpu calls a v4 chip two devices unless told so; jax on a v4 slice sees one
_OPTIONS = {"v4": {"chip_config_name": "megacore"}}
_EXAMPLE = "v5e:4x4, v5p:2x2x2 or cpu:8"


class Topology(NamedTuple):
  """Devices to compile for. hbm_gib: memory of one device, GiB; None where there is no limit."""

  name: str
  devices: list[jax.Device]
  hbm_gib: float | None


def describe(name: str) -> Topology:
  """The devices of `name`.

  Raises BadInput for a name of another form, a shape that the generation does not come in, or a
  TPU slice where libtpu is not installed.
  """
  kind, _, shape = name.partition(":")
  if kind == "cpu":
    return _cpu(name, shape)
  if kind not in HBM_GIB:
    raise BadInput(
      f"--topology {name}: unknown generation {kind!r}; use one of {', '.join(HBM_GIB)} or cpu, "
      f"e.g. {_EXAMPLE}"
    )
  return _tpu(name, kind, shape)


def _cpu(name: str, shape: str) -> Topology:
  if not shape.isdecimal() or int(shape) < 1:
    raise BadInput(f"--topology {name}: cpu takes a number of devices, e.g. cpu:8")
  wanted = int(shape)
  with contextlib.suppress(RuntimeError):  # the backend is up already, with what it has
    jax.config.update("jax_num_cpu_devices", wanted)
  devices = jax.devices("cpu")
  if len(devices) < wanted:
    raise BadInput(
      f"--topology {name}: this process has {len(devices)} CPU devices; set "
      f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted}"
    )
  return Topology(name, devices[:wanted], None)


def _tpu(name: str, kind: str, shape: str) -> Topology:
  axes = _AXES[kind]
  if not re.fullmatch(rf"[1-9]\d*(x\d+){{{axes - 1}}}", shape):
    example = "x".join("2" * axes)
    raise BadInput(
      f"--topology {name}: {kind} slices have {axes} axes of chips; write e.g. {kind}:{example}"
    )
  if importlib.util.find_spec("libtpu") is None:
    raise BadInput(
      f"--topology {name}: compiling for TPU needs libtpu, but no TPU; install libtpu==0.0.42 in "
      "an environment of its own (docs/tpu.md), or try cpu:8"
    )
  # else libtpu spends minutes on asking a cloud machine's metadata server which TPU this host has
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  try:
    found = topologies.get_topology_desc(
      platform="tpu", topology_name=f"{kind}:{shape}", **_OPTIONS.get(kind, {})
    )
  except (RuntimeError, ValueError, NotImplementedError) as error:
    raise BadInput(f"--topology {name}: {_reason(error)}") from error
  devices = list(found.devices)
  # per device, not per chip: libtpu may show a chip as two devices
  return Topology(
    name, devices, HBM_GIB[kind] * math.prod(map(int, shape.split("x"))) / len(devices)
  )


def _reason(error: Exception) -> str:
  text = first_line(error)
  if "not divisible" in text:
    return "slices are whole hosts of 2x2 chips; use even sizes, e.g. v5e:2x2, v5e:2x4 or v5e:4x4"
  if "lockfile" in text or "in use" in text:
    return f"another process uses libtpu; wait for it to end ({text})"
  return f"libtpu refuses it ({text})"
