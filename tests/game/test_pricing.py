"""Each pricing map as an affine map, the written payoffs, and the errors of policy files."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gtalign_jax.errors import BadInput
from gtalign_jax.game import payoff, pricing

EXAMPLE = Path(__file__).parents[2] / "configs" / "pricing" / "example.toml"
POLICIES = [*pricing.PRESETS, str(EXAMPLE)]
matrices = hnp.arrays(np.float64, (2, 3, 2), elements=st.floats(-10, 10))


def by_hand(policy, matrix):
  out = np.empty((2, 3, 2))
  for u, a, r in np.ndindex(2, 3, 2):
    out[u, a, r] = policy.scale[r] * matrix[u, a, r] + policy.shift[a][r]
    out[u, a, r] -= policy.price[r] * policy.tokens[a]
    out[u, a, r] -= policy.price_per_character[r] * policy.characters[a]
  return out


@pytest.mark.parametrize("name", POLICIES)
@given(matrix=matrices)
def test_the_map_is_the_documented_one(name, matrix):
  policy = pricing.load(name)
  np.testing.assert_allclose(pricing.affine(policy, matrix), by_hand(policy, matrix), atol=1e-12)


@pytest.mark.parametrize("name", POLICIES)
@given(matrix=matrices, other=matrices, weight=st.floats(0, 1))
def test_affine(name, matrix, other, weight):
  """The map of a mixture is the mixture of the maps; both user types are treated alike."""
  edit = lambda m: pricing.affine(pricing.load(name), m)  # noqa: E731
  mixed = edit(weight * matrix + (1 - weight) * other)
  np.testing.assert_allclose(mixed, weight * edit(matrix) + (1 - weight) * edit(other), atol=1e-9)
  np.testing.assert_array_equal(edit(matrix[::-1]), edit(matrix)[::-1])


@pytest.mark.parametrize("name", POLICIES)
@given(matrix=matrices, noise=matrices, role=st.integers(0, 1))
def test_roles_are_independent(name, matrix, noise, role):
  changed = matrix.copy()
  changed[..., 1 - role] = noise[..., 1 - role]
  policy = pricing.load(name)
  one, other = pricing.affine(policy, matrix), pricing.affine(policy, changed)
  np.testing.assert_array_equal(one[..., role], other[..., role])


@pytest.mark.parametrize("name", POLICIES)
@given(matrix=matrices)
def test_order_within_an_action_is_kept(name, matrix):
  """Scales are positive: what a role preferred of the two types under one action, it still does."""
  edited = pricing.affine(pricing.load(name), matrix)
  before = matrix[0] > matrix[1]
  assert (edited[0] >= edited[1])[before].all()


@given(matrix=matrices)
def test_directions_of_the_presets(matrix):
  free = pricing.affine(pricing.load("free"), matrix)
  np.testing.assert_array_equal(free, matrix)
  flat = pricing.affine(pricing.load("subscription"), matrix)
  np.testing.assert_array_equal(flat[..., 1], matrix[..., 1])  # the user's side does not move
  assert (flat[..., 0] < matrix[..., 0]).all()
  metered = pricing.affine(pricing.load("pay_per_token"), matrix)
  loss = (matrix - metered)[0, :, 1]
  assert loss[2] > loss[0] > loss[1] > 0  # AQ is the longest response, CQ the shortest


@given(matrix=matrices)
def test_written_payoffs_read_back_as_themselves(matrix):
  written = pricing.apply(pricing.load("pay_per_token"), matrix)
  exact = pricing.affine(pricing.load("pay_per_token"), matrix)
  assert abs(written - exact).max() <= 0.05 + 1e-9
  for value in written.flat:
    text = f"{value:.1f}"
    assert float(text) == value
    assert text != "-0.0"


def test_the_choice_is_made_on_what_is_written():
  matrix = np.zeros((2, 3, 2))
  matrix[0, 0], matrix[0, 1] = (1.0, 1.04), (1.0, 1.01)
  assert payoff.choose(matrix[:, [1, 0, 2]]) == 1  # unrounded, the larger user payoff wins
  assert pricing.choose(pricing.load("free"), matrix[:, [1, 0, 2]]) == 0  # both are written as 1.0


def test_payment_changes_behaviour():
  matrix = np.zeros((2, 3, 2))
  matrix[:, 2] = (3.0, 3.0)  # answer and ask: best, but long
  matrix[:, 1] = (2.0, 1.8)  # ask only: short
  chosen = [pricing.choose(pricing.load(name), matrix) % 3 for name in pricing.PRESETS]
  assert chosen == [2, 2, 1, 1]


def test_under_jit_in_float32():
  matrix = np.random.default_rng(0).uniform(-5, 5, (20, 2, 3, 2)).round(1)
  policy = pricing.load("pay_per_token")
  device = jax.jit(lambda m: pricing.apply(policy, m))(jnp.asarray(matrix, jnp.float32))
  assert device.dtype == jnp.float32
  np.testing.assert_allclose(
    device, pricing.apply(policy, matrix), atol=0.1 + 1e-5
  )  # a half may flip
  close = np.isclose(device, pricing.apply(policy, matrix), atol=1e-5)
  assert close.mean() > 0.95


def test_example_file():
  policy = pricing.load(str(EXAMPLE))
  assert policy == pricing.Pricing(
    name="metered evenings",
    shift=((0.0, 0.0), (0.0, -0.5), (0.0, 0.0)),
    price=(0.001, 0.012),
    tokens=(250.0, 40.0, 290.0),
  )


@pytest.mark.parametrize(
  "text, message",
  [
    ("[price]\nuser = true", r"price\.user=True must be a number"),
    ("[price]\nuser = inf", r"price\.user=inf must be a number"),
    ("[price]\nuser = " + "9" * 400, r"price\.user=9+ must be a number"),
    ("[price]\nuesr = 1", r"unknown key price\.uesr .*did you mean price\.user"),
    ("[prise]\nuser = 1", r"unknown key prise .*did you mean price"),
    ("price = 3", r"price=3 must be a table"),
    ("[scale]\nLLM = 0", r"scale\.LLM=0\.0: must be above 0"),
    ("[tokens]\nDA = -1", r"tokens\.DA=-1\.0: must be at least 0"),
    ("[shift]\nCQ = 1", r"shift\.CQ=1 must be a table"),
    ("[shift.XX]\nuser = 1", r"unknown key shift\.XX"),
    ("name = 3", r"name=3 must be a string"),
    ("[price_per_charcter]\nuser = 1", r"did you mean price_per_character"),
    ("[characters]\nCQ = -1", r"characters\.CQ=-1\.0: must be at least 0"),
    ("= broken", r"not TOML"),
  ],
)
def test_errors_of_a_file_name_file_and_key(tmp_path, text, message):
  path = tmp_path / "policy.toml"
  path.write_text(text)
  with pytest.raises(BadInput, match=message) as caught:
    pricing.load(str(path))
  assert str(path) in str(caught.value)


def test_errors_of_a_name(tmp_path):
  with pytest.raises(BadInput, match="did you mean subscription"):
    pricing.load("subscriptions")
  with pytest.raises(BadInput, match="cannot be read"):
    pricing.load(str(tmp_path / "absent.toml"))
  with pytest.raises(BadInput, match="cannot be read"):
    pricing.load(str(tmp_path))
  (tmp_path / "latin.toml").write_bytes(b'name = "\xff"')
  with pytest.raises(BadInput, match="not TOML"):
    pricing.load(str(tmp_path / "latin.toml"))


def test_the_name_defaults_to_the_stem(tmp_path):
  path = tmp_path / "evening.toml"
  path.write_text("")
  assert pricing.load(str(path)) == pricing.Pricing(name="evening")


number = st.floats(-100, 100)
pair = st.tuples(number, number)


@given(
  st.builds(
    pricing.Pricing,
    name=st.text(),
    scale=st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)),
    shift=st.tuples(pair, pair, pair),
    price=pair,
    tokens=st.tuples(*[st.floats(0, 999)] * 3),
    price_per_character=pair,
    characters=st.tuples(*[st.floats(0, 999)] * 3),
  )
)
def test_a_policy_is_its_table(policy):
  assert pricing.from_table("here", json.loads(json.dumps(pricing.table(policy)))) == policy


def test_what_a_response_is_charged():
  """(shift - price tokens - price_per_character characters) / 10, roles (LLM, user)."""
  policy = pricing.Pricing(
    name="x",
    scale=(3.0, 3.0),
    shift=((1.0, 0.0), (0.5, -2.0), (0.0, -1.0)),
    price=(-0.002, 0.01),
    price_per_character=(0.001, 0.0),
  )
  assert pricing.charge(policy, 1, 100, 400) == pytest.approx([0.03, -0.3], abs=1e-15)
  assert pricing.charge(policy, 0, 0, 0) == [0.1, 0.0]
  # which action it is cannot be told: the smallest shift of each role
  assert pricing.charge(policy, -1, 100, 0) == pytest.approx([0.02, -0.3], abs=1e-15)
  assert pricing.charge(pricing.PRESETS["free"], 2, 999, 9999) == [0.0, 0.0]


def test_a_price_per_character_has_the_level_of_the_price_per_token():
  by_token, by_character = (pricing.PRESETS[f"pay_per_{unit}"] for unit in ("token", "character"))
  matrix = np.zeros((2, 3, 2))
  np.testing.assert_allclose(
    pricing.affine(by_character, matrix), pricing.affine(by_token, matrix), atol=1e-12
  )
  # the same text in twice as many tokens
  assert pricing.charge(by_character, 0, 100, 400) == pricing.charge(by_character, 0, 200, 400)
  assert pricing.charge(by_token, 0, 200, 400)[0] > pricing.charge(by_token, 0, 100, 400)[0]


def test_a_policy_at_a_price_keeps_its_proportions():
  presets = pricing.PRESETS
  for name, price in (("subscription", 0.005), ("pay_per_token", 0.01)):
    assert pricing.at_price(presets[name], price) == presets[name]
  found = pricing.at_price(presets["pay_per_character"], 0.005)
  assert found.price_per_character == (-0.001, 0.005) and found.price == (0, 0)
  assert pricing.at_price(presets["pay_per_token"], 0.0).price == (0, 0)
  with pytest.raises(BadInput, match="'free' charges nothing"):
    pricing.at_price(presets["free"], 0.01)
