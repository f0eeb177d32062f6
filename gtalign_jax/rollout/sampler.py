"""The host's handle of sampling: the jitted programs of rollout/generate.py and the loop around them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gtalign_jax.models import decode
from gtalign_jax.parallel import distributed
from gtalign_jax.parallel.programs import Program
from gtalign_jax.rollout import generate
from gtalign_jax.types import Prompts, Rollout


def nothing() -> None:
  """What is called where nobody wants to be told."""


class Sampler:
  """Host handle of the jitted programs for one architecture and one way of sampling.

  start: prefill. prepare: layers as the decode loop reads them. segment: some tokens of every row.
  grow: larger own caches. refill: new prompts into lanes that have ended (rollout/refill.py).
  """

  def __init__(self, arch, plan: generate.Sampling, stop_table: np.ndarray | jax.Array):
    self.plan = plan
    self.stop_table = jnp.asarray(stop_table)  # an array on a mesh stays as it is placed
    bound = functools.partial
    self.start = Program("prefill", bound(generate.start, arch, plan), static_argnames="slots")
    self.prepare = Program("decode layers", bound(decode.prepare, transposed=plan.transposed))
    self.segment = Program("decode", bound(generate.segment, arch, plan), donate_argnums=6)
    self.refill = Program("refill", bound(generate.refill, arch, plan), donate_argnums=(6, 7))
    grow = bound(decode.grow, transposed=plan.transposed)
    self.grow = Program("grow", grow, static_argnames="slots")

  def put(self, array: Any) -> jax.Array:
    """A host array whole on every device, if the stop table is."""
    place = self.stop_table.sharding
    if isinstance(place, jax.sharding.SingleDeviceSharding):
      return jnp.asarray(array)  # not bound to a device: it follows the other arguments
    return distributed.to_device(array, place)

  def prefill(self, params, prompts: Prompts, key: jax.Array, step: jax.Array):
    """Prompt pass and first token of every row; returns (context, state) for `decode`."""
    return self.start(params, prompts, self.stop_table, key, step)

  def decode(
    self,
    params,
    key,
    step,
    context,
    state: generate.DecodeState,
    under_way: Callable[[], None] = nothing,
  ) -> Rollout:
    """Decodes until every row has ended; `state` is donated.

    under_way: called when the device has its first segment to work on.
    """
    layers = self.prepare(params)
    for number in itertools.count():
      state = self._grown(state, number, self.grow)
      state = self.segment(params, layers, self.stop_table, key, step, context, state)
      if not number:
        under_way()
      if jax.device_get(state.over):
        break
    return state.rollout

  def _grown(
    self, state: generate.DecodeState, number: int, grow: Callable
  ) -> generate.DecodeState:
    """`state` with the caches that segment `number` needs."""
    slots = self.plan.slots(number)
    if not number or slots == self.plan.slots(number - 1):
      return state
    return state._replace(own=grow(state.own, slots=slots))

  def compile(self, params, prompts: Prompts, key, step) -> None:
    """Makes all programs of a call with arguments of these shapes (arrays or shapes)."""
    fixed = (self.stop_table, key, step)
    context, state = self.start.compile(params, prompts, *fixed)
    layers = self.prepare.compile(params)
    for number in range(-(-self.plan.budget // self.plan.segment)):
      state = self._grown(state, number, self.grow.compile)
      note = f"{self.plan.slots(number)} slots"
      state = self.segment.compile(params, layers, *fixed, context, state, note=note)

  def compile_refills(
    self, params, prompts: Prompts, waiting: Prompts, source_P, enough, key, step
  ) -> None:
    """Makes all programs of `refill.stream` with more prompts than lanes."""
    fixed, slots = (self.stop_table, key, step), self.plan.budget
    context, state = self.start.compile(params, prompts, *fixed, slots=slots)
    layers = self.prepare.compile(params)
    note = f"{slots} slots, refilled"
    state = self.segment.compile(params, layers, *fixed, context, state, enough, note=note)
    self.refill.compile(params, waiting, source_P, *fixed, context, state)

  def __call__(
    self,
    params,
    prompts: Prompts,
    key: jax.Array,
    step: jax.Array,
    under_way: Callable[[], None] = nothing,
  ) -> Rollout:
    """Samples `plan.group_size` completions for each prompt; returns device arrays."""
    context, state = self.prefill(params, prompts, key, step)
    return self.decode(params, key, step, context, state, under_way)
