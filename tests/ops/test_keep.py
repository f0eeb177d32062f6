"""What a rematerialised stack of layers keeps: the named arrays, in their own width."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gtalign_jax.ops.matmul import keep

LAYERS, ROWS, WIDTH = 3, 24, 40


def layer(x, kernel):
  x = keep(x, "input")
  y = keep(x @ kernel.astype(x.dtype), "product")
  return x + y * jax.nn.sigmoid(y), None


def loss(kernels, x, body):
  x, _ = jax.lax.scan(body, x, kernels)
  return jnp.sum(jnp.sin(x.astype(jnp.float32)))


def gradient(dtype, policy):
  rng = np.random.default_rng(0)
  kernels = jnp.asarray(0.2 * rng.standard_normal((LAYERS, WIDTH, WIDTH)), jnp.float32)
  x = jnp.asarray(rng.standard_normal((ROWS, WIDTH)), dtype)
  body = jax.checkpoint(layer, policy=policy, prevent_cse=False) if policy else layer
  return jax.jit(jax.grad(loss), static_argnums=2), (kernels, x, body)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_named_arrays_are_kept_and_gradients_unchanged(dtype):
  plain, arguments = gradient(dtype, None)
  policy = jax.checkpoint_policies.save_only_these_names("input", "product")
  program, named = gradient(dtype, policy)
  np.testing.assert_allclose(program(*named), plain(*arguments), rtol=1e-6, atol=1e-6)
  other, unnamed = gradient(dtype, jax.checkpoint_policies.save_only_these_names("input"))
  products = [
    str(f.trace(*a).jaxpr).count("dot_general") for f, a in ((program, named), (other, unnamed))
  ]
  assert products[0] == products[1] - 1  # the named product is not made again


def test_bf16_is_not_widened_for_all_layers_at_once():
  policy = jax.checkpoint_policies.save_only_these_names("input", "product")
  program, arguments = gradient("bfloat16", policy)
  text = program.lower(*arguments).compile().as_text()
  assert f"u16[{LAYERS},{ROWS},{WIDTH}]" in text
  assert f"f32[{LAYERS},{ROWS},{WIDTH}]" not in text
