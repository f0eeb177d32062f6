"""Welfare functions of (user, LLM) utility by name, with gradients that stay finite at zero.

Inputs are clipped at 0. Where a function's slope is infinite or kinked at the boundary its gradient
is 0 there, so that a row without utility sends no NaN into a batch (FORMULAS: the game).
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from gtalign_jax.arrays import floats, namespace
from gtalign_jax.errors import BadInput
from gtalign_jax.fields import one_of
from gtalign_jax.reward_section import WELFARES
from gtalign_jax.types import Array


def welfare(
  name: str,
  user: Array,
  llm: Array,
  alpha: Array | float = 0.5,
  rho: float = -1.0,
  disagreement: tuple[float, float] = (0.0, 0.0),
) -> Array:
  """Welfare of utilities `user` and `llm` (broadcast; dtype kept; NaN stays NaN).

  alpha: one number, or one of each row, which then gets the value of a call with that number.

  cobb_douglas user^alpha llm^(1-alpha); utilitarian their mean; egalitarian their minimum; nash the
  product of gains over `disagreement` = (user, llm), no gain counting 0; ces
  (alpha user^rho + (1-alpha) llm^rho)^(1/rho) with its limits at rho = 0 (Cobb-Douglas), -inf (min)
  and inf (max); user, llm the one utility. Raises BadInput on an unknown name, or an alpha on the
  host that is not in [0, 1].
  """
  one_of("welfare", name, WELFARES)
  # what a device holds is not fetched to be looked at
  if namespace(alpha) is np and not np.all((np.asarray(alpha) >= 0) & (np.asarray(alpha) <= 1)):
    raise BadInput(f"alpha={alpha}: must lie in [0, 1]")
  if _is_number(alpha):
    xp, user, llm = floats(user, llm)
  else:
    xp, user, llm, rows = floats(user, llm, alpha)
    alpha = rows.astype(xp.result_type(user, llm))  # float64 rows would widen float32 ones
  user, llm = _positive(xp, user), _positive(xp, llm)
  if name == "nash":
    return _positive(xp, user - disagreement[0]) * _positive(xp, llm - disagreement[1])
  if name == "ces":
    return _ces(xp, user, llm, alpha, rho)
  if name == "cobb_douglas":
    return cobb_douglas(xp, user, llm, alpha)
  if name == "utilitarian":
    return 0.5 * user + 0.5 * llm  # not half the sum, which could overflow
  if name == "egalitarian":
    return xp.minimum(user, llm)
  # + 0 * the other: broadcast to both shapes, and NaN where either is NaN
  return user + 0 * llm if name == "user" else llm + 0 * user


def cobb_douglas(xp: ModuleType, user: Array, llm: Array, alpha: Array | float) -> Array:
  """user^alpha llm^(1-alpha) of non-negative arrays; gradient 0 where either is 0."""
  only_user, only_llm = user + 0 * llm, llm + 0 * user
  if _is_number(alpha) and alpha in (0.0, 1.0):
    return only_user if alpha else only_llm
  zero = xp.minimum(user, llm) < _tiny(xp, user, llm)  # a NaN is not: it stays NaN
  user, llm = xp.where(zero, 1.0, user), xp.where(zero, 1.0, llm)
  if _is_number(alpha):
    value = _root(xp, user, llm) if alpha == 0.5 else _powers(xp, user, llm, alpha)
    return xp.where(zero, 0.0, value)
  # 0.5 inside as well where alpha is an end: x^-1 in the gradient of the branch not taken overflows
  inner = xp.where((alpha == 0) | (alpha == 1), 0.5, alpha)
  value = xp.where(inner == 0.5, _root(xp, user, llm), _powers(xp, user, llm, inner))
  value = xp.where(zero, 0.0, value)
  return xp.where(alpha == 1, only_user, xp.where(alpha == 0, only_llm, value))


def _root(xp: ModuleType, user: Array, llm: Array) -> Array:
  return xp.sqrt(user) * xp.sqrt(llm)  # the root of the product could overflow


def _powers(xp: ModuleType, user: Array, llm: Array, alpha: Array | float) -> Array:
  return xp.power(user, alpha) * xp.power(llm, 1.0 - alpha)


def _is_number(alpha: Array | float) -> bool:
  return isinstance(alpha, (int, float))


def _ces(xp: ModuleType, user: Array, llm: Array, alpha: Array | float, rho: float) -> Array:
  if math.isnan(rho):
    raise BadInput("rho=nan: must be a number or an infinity")
  one = _is_number(alpha)
  if abs(rho) < 1e-30 or (one and alpha in (0.0, 1.0)):  # the limit, far below rounding
    return cobb_douglas(xp, user, llm, alpha)
  if one:
    return _power_mean(xp, user, llm, alpha, rho)
  ends = (alpha == 0) | (alpha == 1)  # as in `cobb_douglas`
  inside = _power_mean(xp, user, llm, xp.where(ends, 0.5, alpha), rho)
  return xp.where(ends, cobb_douglas(xp, user, llm, alpha), inside)


def _power_mean(xp: ModuleType, user: Array, llm: Array, alpha: Array | float, rho: float) -> Array:
  """CES in the log domain around the larger (rho > 0) or smaller utility: no power overflows."""
  if math.isinf(rho):
    return xp.maximum(user, llm) if rho > 0 else xp.minimum(user, llm)
  tiny = _tiny(xp, user, llm)
  outer = xp.maximum if rho > 0 else xp.minimum
  none = outer(user, llm) < tiny  # welfare is 0: both are 0, or (rho < 0) one is
  zero_user, zero_llm = user < tiny, llm < tiny
  log_user = xp.log(xp.where(zero_user, 1.0, user))
  log_llm = xp.log(xp.where(zero_llm, 1.0, llm))
  # a zero must not be the anchor: with rho > 0 the anchor is the other one
  log_user = xp.where(zero_user, xp.where(zero_llm, 0.0, log_llm), log_user)
  log_llm = xp.where(zero_llm, log_user, log_llm)
  anchor = outer(log_user, log_llm)
  x, y = rho * (log_user - anchor), rho * (log_llm - anchor)  # both <= 0, one is 0
  near = xp.minimum(x, y) > -1.0
  near = near & ~zero_user & ~zero_llm
  x_near, y_near = xp.where(near, x, 0.0), xp.where(near, y, 0.0)
  precise = xp.log1p(alpha * xp.expm1(x_near) + (1.0 - alpha) * xp.expm1(y_near))
  share = xp.where(zero_user, 0.0, alpha * xp.exp(x)) + xp.where(
    zero_llm, 0.0, (1.0 - alpha) * xp.exp(y)
  )
  log_share = xp.where(near, precise, xp.log(xp.where(near | none, 1.0, share)))
  return xp.where(none, 0.0, xp.exp(anchor + log_share / rho))


def _positive(xp: ModuleType, x: Array) -> Array:
  return xp.where(x <= 0, 0.0, x)  # not maximum(x, 0): jax would give it slope 1/2 at 0


def _tiny(xp: ModuleType, *arrays: Array) -> float:
  """Smallest normal number: below it XLA may flush to 0, and log or a power would be infinite."""
  return float(xp.finfo(xp.result_type(*arrays)).tiny)
