"""Run-comparison metrics against moocore and against the definitions written out."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.game import metrics

sizes = st.integers(1, 25)
grid = sizes.flatmap(
  lambda n: hnp.arrays(np.float64, (n, 2), elements=st.integers(-4, 4).map(lambda k: k / 4))
)
clouds = st.one_of(
  grid, sizes.flatmap(lambda n: hnp.arrays(np.float64, (n, 2), elements=st.floats(-1, 1)))
)


def test_published_hypervolume():
  assert metrics.hypervolume([(1, 0), (0.9, 0.9)], (0, 0)) == pytest.approx(0.81)
  assert metrics.hypervolume([(1, 1)], (1, 0)) == 0.0
  assert metrics.hypervolume([(1, 0.5), (0.5, 1), (0.4, 0.4)], (0, 0)) == pytest.approx(0.75)


@given(clouds, st.floats(-1.5, 0.5), st.floats(-1.5, 0.5))
def test_hypervolume_equals_moocore(points, u_ref, l_ref):
  expected = moocore.hypervolume(points, ref=[u_ref, l_ref], maximise=True)
  assert metrics.hypervolume(points, (u_ref, l_ref)) == pytest.approx(expected, abs=1e-12)


@given(clouds)
def test_front_equals_moocore(points):
  mask = metrics.front_mask(points)
  np.testing.assert_array_equal(
    mask, moocore.is_nondominated(points, maximise=True, keep_weakly=True)
  )
  assert mask.any()
  front = metrics.front(points)
  assert (np.diff(front[:, 0]) > 0).all() and (np.diff(front[:, 1]) < 0).all()


@given(clouds, clouds, st.sampled_from([0.0, 0.05, 0.25]))
def test_coverage_and_regret_by_definition(a, b, epsilon):
  b = np.resize(b, a.shape)
  got = metrics.compare(a, b, epsilon)
  both = np.concatenate([a, b])
  ranges = np.ptp(both, axis=0)
  ranges[ranges == 0] = 1.0
  front = both[metrics.front_mask(both)]
  for name, points in (("a", a), ("b", b)):
    gaps = (front[None] - points[:, None]) / ranges
    coverage = (gaps <= epsilon).all(axis=2).any(axis=1).mean()
    regret = np.maximum(gaps, 0).max(axis=2).min(axis=1).mean()
    ordered = metrics.front(both)
    assert metrics.coverage(points, ordered, ranges, epsilon) == coverage
    assert metrics.regret(points, ordered, ranges) == pytest.approx(regret, abs=1e-15)
    assert got["coverage"][name] == coverage
    assert got["regret"][name] == pytest.approx(regret, abs=1e-15)
    expected = moocore.hypervolume(points, ref=both.min(axis=0), maximise=True)
    assert got["hypervolume"][name] == pytest.approx(expected, abs=1e-12)


@given(sizes.flatmap(lambda n: hnp.arrays(np.int8, (2, n, 2), elements=st.integers(0, 2))))
def test_dominance_by_definition(pair):
  counts = {"a": 0, "b": 0, "equal": 0, "incomparable": 0}
  for p, q in zip(*pair.astype(float)):
    if (p == q).all():
      counts["equal"] += 1
    elif (p >= q).all():
      counts["a"] += 1
    elif (q >= p).all():
      counts["b"] += 1
    else:
      counts["incomparable"] += 1
  assert metrics.dominance(*pair) == counts


@given(clouds, st.randoms(use_true_random=False))
def test_order_does_not_matter(points, random):
  order = list(range(len(points)))
  random.shuffle(order)
  np.testing.assert_array_equal(metrics.front(points[order]), metrics.front(points))
  assert metrics.hypervolume(points[order], (-2, -2)) == metrics.hypervolume(points, (-2, -2))


def test_equal_runs():
  points = np.full((3, 2), 0.5)
  got = metrics.compare(points, points, 0.0)  # ranges of 0 count as 1
  assert got["coverage"] == {"a": 1.0, "b": 1.0}
  assert got["regret"] == {"a": 0.0, "b": 0.0}
  assert got["hypervolume"] == {"a": 0.0, "b": 0.0}
  assert got["dominance"] == {"a": 0, "b": 0, "equal": 3, "incomparable": 0}


def test_per_point():
  values = metrics.per_point([4.0, -1.0], [1.0, 2.0])
  np.testing.assert_array_equal(values["welfare"], [2.0, 0.0])
  np.testing.assert_array_equal(values["min"], [1.0, -1.0])
  np.testing.assert_array_equal(values["gap"], [3.0, 3.0])


def test_a_large_front_is_fast_and_right():
  """Every point is on the front: a quadratic method would need 10^10 comparisons."""
  angle = np.linspace(0, np.pi / 2, 100_000)
  arc = np.stack([np.sin(angle), np.cos(angle)], axis=1)
  got = metrics.compare(arc, 0.9 * arc, 0.05)
  assert got["hypervolume"]["a"] == pytest.approx(np.pi / 4, abs=1e-4)
  assert got["coverage"]["a"] == 1.0
  assert got["regret"]["a"] == 0.0
  # from 0.9 e to the nearest front point, larger coordinate: 0.1 at an axis, 0.0707 at 45 degrees
  assert 0.0707 < got["regret"]["b"] < 0.1


def test_wrong_shape():
  with pytest.raises(ValueError, match=r"\[N, 2\]"):
    metrics.front(np.zeros((3, 3)))
