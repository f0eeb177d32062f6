"""Best of k, F1, order along a sweep: values by hand."""

import itertools

import numpy as np
import pytest

from gtalign_jax.game import responses

NAN = np.nan


def test_best_of_k_is_the_mean_over_all_choices_of_k():
  values = np.array([[0.3, 0.9, 0.1, 0.5], [0.2, NAN, 0.8, NAN], [NAN] * 4])
  for k in range(1, 5):
    found = responses.best_of(values, k)
    for got, row in zip(found, values):
      there = row[~np.isnan(row)]
      every = [max(each) for each in itertools.combinations(there, k)]
      assert got == pytest.approx(np.mean(every)) if every else np.isnan(got)
  assert responses.best_of(np.zeros((0, 2)), 2).shape == (0,)


def test_f1_is_two_thirds_where_one_of_two_is_missed():
  assert responses.f1(1, 0, 1) == pytest.approx(2 / 3)  # precision 1, recall 1/2
  assert responses.f1(0, 2, 1) == 0 and np.isnan(responses.f1(0, 0, 0))


def test_order_along_a_sweep():
  lengths = [[30, 30, 10], [30, 31, 10], [5, 5, 5]]
  assert responses.ordered(lengths, rising=False).tolist() == [True, False, True]
  assert responses.ordered(lengths, rising=True).tolist() == [False, False, True]
