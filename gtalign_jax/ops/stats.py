"""Means and deviations of the entries that count, with NumPy or jax, in the dtype of the input.

An empty selection has mean 0 and deviation 0, never NaN, and entries that do not count may hold
anything, NaN included.
"""

from typing import Any

from gtalign_jax.arrays import floats
from gtalign_jax.types import Array


def _selected(x: Any, mask: Any) -> tuple[Any, Array, Array]:
  """(namespace, x with zeros where it does not count, the mask as bool in the shape of x)."""
  xp, x = floats(x)
  keep = xp.broadcast_to(xp.asarray(mask) != 0, x.shape)
  return xp, xp.where(keep, x, xp.zeros_like(x)), keep


def masked_mean(x: Any, mask: Any, axis: Any = None, keepdims: bool = False) -> Array:
  """Mean of `x` where `mask` (broadcast to x) is not 0, over `axis` (None: all); 0 if none is."""
  xp, x, keep = _selected(x, mask)
  count = xp.sum(keep, axis=axis, keepdims=keepdims).astype(x.dtype)
  return xp.sum(x, axis=axis, keepdims=keepdims) / xp.maximum(count, 1)


def centred(x: Any, mask: Any, axis: Any = None) -> Array:
  """`x` minus its masked mean over `axis`; 0 where the mask is 0, and for equal entries exactly."""
  xp, x, keep = _selected(x, mask)
  # From their largest first: in f32 the mean of n equal numbers is often one rounding off, which a
  # division by 1e-6 would turn into a signal.
  top = xp.max(xp.where(keep, x, -xp.inf), axis=axis, keepdims=True, initial=-xp.inf)
  x = xp.where(keep, x - xp.where(xp.isfinite(top), top, 0), xp.zeros_like(x))
  return xp.where(keep, x - masked_mean(x, keep, axis, keepdims=True), xp.zeros_like(x))


def masked_std(x: Any, mask: Any, ddof: int = 0, axis: Any = None, keepdims: bool = False) -> Array:
  """Standard deviation of `x` where `mask` is not 0, divisor n - ddof; 0 if n <= ddof."""
  xp, x, keep = _selected(x, mask)
  away = centred(x, keep, axis)
  count = xp.sum(keep, axis=axis, keepdims=keepdims).astype(x.dtype)
  squares = xp.sum(away * away, axis=axis, keepdims=keepdims)
  positive = squares > 0  # the inner where keeps the gradient of sqrt finite at 0
  root = xp.sqrt(xp.where(positive, squares / xp.maximum(count - ddof, 1), xp.ones_like(squares)))
  return xp.where(positive & (count > ddof), root, xp.zeros_like(root))


def whiten(x: Any, mask: Any) -> Array:
  """(x - mean) / (std + 1e-8), deviation with ddof 1, over the entries that count; 0 elsewhere."""
  return centred(x, mask) / (masked_std(x, mask, ddof=1) + 1e-8)
