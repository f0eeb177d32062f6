"""Source normalisation against the formulas row by row, and the command's files and errors."""

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtalign_jax.cli.main import main
from gtalign_jax.errors import BadInput
from gtalign_jax.reward_section import SOURCE_NORMS
from gtalign_jax.rewards.normalize import METHODS, normalize

# Thousandths: no spread lands within rounding of 1e-6, where zscore, minmax and robustz jump.
values = st.one_of(st.integers(-3, 3).map(float), st.floats(-100, 100).map(lambda x: round(x, 3)))
rows = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), values)), max_size=30)
E = 1e-6


def test_every_name_of_the_config_has_its_method():
  assert tuple(METHODS) == SOURCE_NORMS


def percentile(ordered, share):
  place = share * (len(ordered) - 1)
  low = math.floor(place)
  high = min(low + 1, len(ordered) - 1)
  return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def by_hand(method, x, own, batch):
  """FORMULAS section 5 for one value x of the source `own` in the whole `batch`."""
  n, size = len(own), len(batch)
  mean, spread = statistics.fmean(own), statistics.pstdev(own)
  mean_all, spread_all = statistics.fmean(batch), statistics.pstdev(batch)
  below, tied = sum(v < x for v in own), sum(v == x for v in own)
  if method == "zscore":
    return 0.0 if spread <= E else (x - mean) / (spread + E)
  if method == "minmax":
    return 0.0 if max(own) - min(own) <= E else (x - min(own)) / (max(own) - min(own))
  if method == "robustz":
    low, high = percentile(sorted(own), 0.01), percentile(sorted(own), 0.99)
    clip = lambda v: min(max(v, low), high)  # noqa: E731
    w = [clip(v) for v in own]
    median = statistics.median(w)
    d = 1.4826 * statistics.median(abs(v - median) for v in w)
    return math.tanh((clip(x) - median) / (2 * (d if d > E else 1.0)))
  if method == "cdf":
    return 2 * (below + (tied + 1) / 2 - 0.5) / n - 1
  if method == "quantile":
    return sorted(batch)[math.floor((below + tied - 0.5) / n * (size - 1))]
  if method == "james":
    k = n / (n + 50)
    m = k * mean + (1 - k) * mean_all
    v = k * (spread + E) ** 2 + (1 - k) * (spread_all + E) ** 2
    return (x - m) / (math.sqrt(v) + E)
  if method == "decentralize":
    return (x - mean) / (spread_all + E)
  if method == "selfadapt":
    return math.tanh((x - mean) / 2)
  return x


@pytest.mark.parametrize("method", SOURCE_NORMS)
@given(rows=rows)
def test_every_method_by_hand(method, rows):
  sources, scores = [s for s, _ in rows], [x for _, x in rows]
  got = normalize(scores, sources, method)
  assert got.dtype == np.float64
  batch = [x for x in scores if x is not None]
  for source, x, value in zip(sources, scores, got):
    if x is None:
      assert math.isnan(value)
      continue
    own = [y for s, y in rows if s == source and y is not None]
    assert value == pytest.approx(by_hand(method, x, own, batch), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("method", SOURCE_NORMS)
@given(rows=rows, seed=st.integers(0, 9))
def test_invalid_rows_and_order_change_nothing(method, rows, seed):
  sources, scores = [s for s, _ in rows], [x for _, x in rows]
  plain = normalize(scores, sources, method)
  extended = normalize([*scores, None, math.nan, math.inf], [*sources, "a", "b", "new"], method)
  np.testing.assert_array_equal(extended[: len(rows)], plain)
  assert np.isnan(extended[len(rows) :]).all()
  order = np.random.default_rng(seed).permutation(len(rows))
  shuffled = normalize([scores[i] for i in order], [sources[i] for i in order], method)
  np.testing.assert_allclose(shuffled, plain[order], atol=1e-7)


def test_golden():
  scores, sources = [1.0, 0.5, None, 2.0], ["a", "a", "a", "b"]
  check = lambda method, *expected: np.testing.assert_allclose(  # noqa: E731
    normalize(scores, sources, method), expected, rtol=1e-12
  )
  check("none", 1.0, 0.5, np.nan, 2.0)
  check("zscore", 0.25 / 0.250001, -0.25 / 0.250001, np.nan, 0.0)
  check("minmax", 1.0, 0.0, np.nan, 0.0)
  check("cdf", 0.5, -0.5, np.nan, 0.0)
  check("quantile", 1.0, 0.5, np.nan, 1.0)
  check("selfadapt", math.tanh(0.125), -math.tanh(0.125), np.nan, 0.0)


def test_constant_sources_are_zero_not_nan():
  scores, sources = [0.1] * 7 + [0.3] * 3, ["a"] * 7 + ["b"] * 3
  for method in ("zscore", "minmax", "robustz"):
    np.testing.assert_array_equal(normalize(scores, sources, method), 0.0)


def test_bad_arguments():
  with pytest.raises(BadInput, match="zsocre"):
    normalize([1.0], ["a"], "zsocre")
  with pytest.raises(BadInput, match="2 scores but 1 sources"):
    normalize([1.0, 2.0], ["a"], "none")


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_command(tmp_path, capsys):
  rows = [
    {"source": "a", "score": 1, "note": "kept \ud800 \u4f60"},
    {"source": "a", "score": 0.5},
    {"source": "b", "score": None},
    {"data_source": "b", "score": 2},
  ]
  source, out = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
  assert main(["normalize", source, str(out), "--method", "minmax", "--json"]) == 0
  written = [json.loads(line) for line in out.read_text().splitlines()]
  assert [row.pop("normalized") for row in written] == [1.0, 0.0, None, 0.0]
  assert written == rows
  summary = json.loads(capsys.readouterr().out.splitlines()[-1])
  assert summary == {"rows": 4, "invalid": 1, "sources": 2, "method": "minmax"}
  assert main(["normalize", source, source, "--method", "none"]) == 0  # in place
  assert json.loads((tmp_path / "in.jsonl").read_text().splitlines()[0])["normalized"] == 1


@pytest.mark.parametrize(
  "line, message",
  [
    ("{", "not a line of JSON"),
    ("[1]", "expected a JSON object"),
    ("[" * 100_000, "not a line of JSON"),
    ('{"source": "a"}', "no key score"),
    ('{"source": "a", "score": "1"}', "must be a number"),
    ('{"source": "a", "score": true}', "must be a number"),
    ('{"source": "a", "score": NaN}', "must be a finite number"),
    ('{"source": "a", "score": 1e999}', "must be a finite number"),
    ('{"source": "a", "score": 1' + "0" * 400 + "}", "must be a finite number"),
    ('{"source": "a", "score": 1' + "0" * 5000 + "}", "not a line of JSON"),
    ('{"score": 1}', "no key source or data_source"),
    ('{"data_source": null, "score": 1}', "data_source=None must be a string"),
    ('{"source": "a", "score": 1e200}', "must lie within 1e+150 of 0"),
    ('{"source": "a", "score": ' + "[" * 500 + "]" * 500 + "}", "nested deeper than 100 levels"),
    ('{"source": 3, "score": 1}', "source=3 must be a string"),
    (b'{"source": "\xff", "score": 1}', "not a line of JSON"),
  ],
)
def test_a_malformed_line_exits_2_and_writes_nothing(tmp_path, capsys, line, message):
  path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  line = line if isinstance(line, bytes) else line.encode()
  path.write_bytes(b'{"source": "a", "score": 1}\n\n' + line + b"\n")
  assert main(["normalize", str(path), str(out), "--method", "cdf"]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert f"{path}:3" in error
  assert error.count("\n") == 1
  assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl"]


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["{in}", "{out}"], "--method"),
    (["{in}", "{out}", "--method", "z"], "invalid choice"),
    (["{dir}/absent", "{out}", "--method", "cdf"], "cannot be read"),
    (["{dir}", "{out}", "--method", "cdf"], "cannot be read"),
    (["{in}", "{dir}/no/out", "--method", "cdf"], "cannot be written"),
    (["{in}", "{dir}", "--method", "cdf"], "cannot be written"),
  ],
)
def test_bad_calls_exit_2(tmp_path, capsys, arguments, message):
  names = {"in": write(tmp_path / "in", [{"source": "a", "score": 1}]), "dir": str(tmp_path)}
  names["out"] = str(tmp_path / "out")
  assert main(["normalize", *(each.format(**names) for each in arguments)]) == 2
  error = capsys.readouterr().err
  assert message in error
  assert error.count("\n") == 1
