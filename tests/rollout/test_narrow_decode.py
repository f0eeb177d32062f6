"""bf16 decoding on CPU multiplies in bf16: no weight is widened to f32 on the way into a product."""

import functools

import jax
import jax.numpy as jnp
import pytest

from gtalign_jax.models import decode_cpu, decoder
from gtalign_jax.models.variants import Arch
from gtalign_jax.rollout import generate
from gtalign_jax.sections import RolloutConfig
from gtalign_jax.types import Prompts

ARCH = Arch(
  family="llama", vocab_size=640, width=96, mlp_width=224, num_layers=2, num_heads=6, num_kv_heads=2,
  head_dim=16, max_positions=64, windows=(0, 0), tied=True,
)  # fmt: skip
MATRICES = ["160,96", "96,96", "448,96", "96,224"]  # q k v, o, gate and up, down
PROMPTS, SLOTS = 4, 16


def shape(*sizes, dtype=jnp.int32):
  return jax.ShapeDtypeStruct(sizes, dtype)


def program_text():
  """The optimised decode program, from shapes alone."""
  sampling = generate.sampling_of(
    RolloutConfig(group_size=8, max_new_tokens=SLOTS), ARCH, (2,), 0, "bfloat16"
  )
  init = functools.partial(decoder.init, ARCH, param_dtype="bfloat16")
  key = jax.eval_shape(lambda: jax.random.key(0))
  params = jax.eval_shape(init, key)
  prompts = Prompts(shape(PROMPTS, 32), shape(PROMPTS), shape(PROMPTS))
  table = shape(3, ARCH.vocab_size, dtype=jnp.int8)
  inputs = generate.DecodeInputs(params, None, table, key, shape())
  start = functools.partial(generate.start, sampling, SLOTS)
  context, state = jax.eval_shape(start, inputs, prompts)
  inputs = inputs._replace(layers=jax.eval_shape(decode_cpu.prepare, params))
  segment = jax.jit(functools.partial(generate.segment, sampling))
  return segment.lower(inputs, context, state, shape()).compile().as_text()


def test_no_weight_is_widened():
  product = jax.jit(functools.partial(jnp.matmul, preferred_element_type=jnp.float32))
  plain = product.lower(shape(448, 96, dtype=jnp.bfloat16), shape(96, 32, dtype=jnp.bfloat16))
  if "f32[448,96]" in plain.compile().as_text():
    pytest.skip("this CPU has no bf16 products")
  text = program_text()
  for sizes in MATRICES:
    assert f"bf16[{sizes}]" in text and f"f32[{sizes}]" not in text, sizes
  # the lookup of tokens widens the table once; the head's product reads it as it is
  (head,) = (
    line for line in text.splitlines() if f"f32[32,{ARCH.vocab_size}]" in line and " dot(" in line
  )
  operand = head.split(" dot(")[1].split(")")[0].split(", ")[1]
  (source,) = (line for line in text.splitlines() if line.strip().startswith(f"{operand} = "))
  assert " = bf16[640,96]" in source
