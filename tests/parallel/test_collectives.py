import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gtalign_jax.parallel import collectives

HLO = textwrap.dedent("""\
  HloModule jit_f

  %body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
    %p = (s32[], f32[8]{0}) parameter(0)
    %all-reduce.1 = f32[8]{0} all-reduce(%x), to_apply=%add
    ROOT %t = (s32[], f32[8]) tuple(%i, %all-reduce.1)
  }

  %fused.1 (a: bf16[4]) -> bf16[8] {
    ROOT %all-gather.7 = bf16[8]{0} all-gather(%a), channel_id=3, dimensions={0}
  }

  %async_collective_fusion.2 (a: bf16[4]) -> bf16[8] {
    ROOT %all-gather.8 = bf16[8]{0} all-gather(%a), channel_id=3, dimensions={0}
  }

  %counted (p: (s32[], f32[8])) -> pred[] {
    %n = s32[]{:T(128)} constant(5)
    %i = s32[]{:T(128)} get-tuple-element(%p), index=0
    ROOT %lt = pred[] compare(%i, %n), direction=LT, metadata={op_name="while/cond/lt"}
  }

  %open (p: (s32[], f32[8])) -> pred[] {
    %n = s32[]{:T(128)} constant(5)
    %lt = pred[] compare(%i, %n), direction=LT
    ROOT %and = pred[] and(%lt, %alive)
  }

  ENTRY %main (a: bf16[4,2]) -> f32[8] {
    %ags = (bf16[4,2]{1,0:T(8,128)(2,1)}, bf16[16,2]{1,0}) all-gather-start(%a), dimensions={0}
    %agd = bf16[16,2]{1,0} all-gather-done(%ags)
    %async-collective-start = (bf16[4], bf16[8]) fusion(%c), kind=kCustom, calls=%fused.1
    %fusion.2 = (bf16[8], f32[8]) fusion(%d), kind=kOutput, calls=%async_collective_fusion.2
    %async-collective-done = bf16[8]{0} fusion(%e), kind=kCustom, calls=%fused.1
    %cps = (s32[6]{0}, s32[6]{0}, u32[], u32[]) collective-permute-start(%b)
    %w = (s32[], f32[8]) while(%t0), condition=%open, body=%body, backend_config={"known_trip_count":{"n":"36"}}
    %w2 = (s32[], f32[8]) while(%t1), condition=%counted, body=%body
    %w3 = (s32[], f32[8]) while(%t2), condition=%open, body=%body
    ROOT %r = f32[8]{0} get-tuple-element(%w), index=1
  }
""")


def test_loops_and_started_operations():
  assert collectives.count(HLO) == {
    "all-gather": {"count": 2, "bytes": 16 * 2 * 2 + 8 * 2},  # the overlapped one counts once
    "all-reduce": {"count": 42, "bytes": 42 * 8 * 4},  # 36 stated, 5 bounded, one of the open loop
    "collective-permute": {"count": 1, "bytes": 24},
  }


@pytest.mark.parametrize("steps", [1, 5])
def test_a_compiled_scan(steps):
  mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))

  def body(carry, w):
    return jnp.tanh(carry @ w), None

  def f(x, w):
    return jax.lax.scan(body, x, w)[0]

  x = jax.ShapeDtypeStruct((4, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec()))
  w = jax.ShapeDtypeStruct(
    (steps, 64, 64), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(None, "x"))
  )
  found = collectives.count(jax.jit(f).lower(x, w).compile().as_text())
  # contraction over the split axis: the [4, 64] result is summed over devices in every step
  assert found["all-reduce"] == {"count": steps, "bytes": steps * 4 * 64 * 4}
