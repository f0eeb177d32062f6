"""Errors that no code foresaw, as one line: the machine's, those of jax's variables, and bugs."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

from gtalign_jax import files
from gtalign_jax.errors import first_line

DEBUG = "GTALIGN_DEBUG"  # set: the traceback is shown on stderr instead of kept in a file


def explain(error: Exception) -> tuple[int, str]:
  """(exit code, what to say) for an error that is neither BadInput nor RunFailure."""
  if os.environ.get(DEBUG):
    traceback.print_exception(error)
  if isinstance(error, OSError) and _no_folder():
    return 2, "the current folder is not there any more; change to another one"
  if variable := _variable(error):
    value = f"{variable}={os.environ[variable]!r}"
    if variable == "JAX_PLATFORMS":
      return 2, f"{value}: this machine has no such platform; unset it, or name another, e.g. cpu"
    return 2, f"{value}: jax cannot use it ({first_line(error)}); unset it"
  if isinstance(error, OSError) and error.errno:
    place = f"{error.filename}: " if error.filename else ""
    kept = "" if error.errno in files.DISK_FAULTS else _kept(error)
    return 1, f"{place}{error.strerror}{kept}"
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
    return 1, f"out of memory: {first_line(error)}; use a smaller batch, or more devices"
  said = f"{type(error).__name__}: {first_line(error)}"
  return 1, f"internal error, please report it: {said}{_kept(error)}"


def _variable(error: Exception) -> str:
  """The environment variable of jax that `error` is about, "" if there is none.

  jax reads its variables when it is imported and opens its platforms at the first array, and says
  which one it minds in some cases only.
  """
  given = [name for name in os.environ if name.startswith("JAX_")]
  if "JAX_PLATFORMS" in given and _no_platform():
    return "JAX_PLATFORMS"
  said = str(error).upper()
  return next((name for name in given if name in said), "")


def _no_folder() -> bool:
  try:
    os.getcwd()
  except FileNotFoundError:
    return True
  return False


def _no_platform() -> bool:
  jax = sys.modules.get("jax")
  if jax is None or not hasattr(jax, "devices"):
    return False
  try:
    jax.devices()
  except Exception:  # RuntimeError, or an AssertionError of its own on the second try
    return True
  return False


def _kept(error: Exception) -> str:
  """Where the traceback was written to: the line on stderr alone would not tell where it was."""
  if os.environ.get(DEBUG):
    return ""
  try:
    handle, path = tempfile.mkstemp(prefix="gtalign-error-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
      traceback.print_exception(error, file=file)
  except OSError:  # the disk may be what failed
    return f" ({DEBUG}=1 shows the traceback)"
  return f" (traceback in {path})"
