"""temporary shim"""

import functools
import types

import jax

from gtalign_jax.models import decode as _d


def _ns(t):
  p = lambda f: functools.partial(f, transposed=t)
  return types.SimpleNamespace(
    prepare=p(_d.prepare),
    prompt_cache=p(_d.prompt_cache),
    empty=p(_d.empty),
    grow=p(_d.grow),
    step=p(_d.step),
    CACHE_AXES=_d.CACHE_AXES,
    SLOTS=_d.SLOTS,
    GROWS=t,
  )


LAYOUTS = {"rows": _ns(False), "columns": _ns(True)}


def native():
  return "columns" if jax.default_backend() == "cpu" else "rows"


def layout(name):
  return LAYOUTS[name]
