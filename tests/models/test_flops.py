"""Model FLOPs of an update: a sum over tokens and attended pairs."""

import numpy as np
import pytest

from gtalign_jax.models import decoder, flops
from gtalign_jax.models.variants import TINY


def test_model_flops_counts_every_token_and_every_attended_pair():
  params = decoder.abstract(TINY, "float32")
  matrices = sum(
    np.prod(x.shape) for x in params["layers"].values() for x in _leaves(x) if len(x.shape) > 2
  )
  length_P, count_PG = np.asarray([3, 5]), np.asarray([[1, 4], [2, 2]])
  layer_tokens = head_tokens = pairs = 0
  for length, counts in zip(length_P, count_PG):
    layer_tokens += length
    pairs += sum(position + 1 for position in range(length))
    for count in counts:
      head_tokens += count
      for position in range(count - 1):  # the last token is not fed
        layer_tokens += 1
        pairs += length + position + 1
  expected = 6 * matrices * layer_tokens + 6 * TINY.vocab_size * TINY.width * head_tokens
  expected += 12 * TINY.num_layers * TINY.num_heads * TINY.head_dim * pairs
  assert flops.update_flops(TINY, length_P, count_PG) == pytest.approx(expected)


def _leaves(tree):
  if hasattr(tree, "shape"):
    return [tree]
  return [leaf for part in tree.values() for leaf in _leaves(part)]
