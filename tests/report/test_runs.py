"""The report over several runs: `gtalign compare … --html`."""

import shutil

import pytest
from workdirs import EVIL, Page, make

from gtalign_jax.cli.main import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp("grid")
  for seed, (name, quality) in enumerate(
    {"game-linear": 0.6, "paper": 0.2, "<i>none": 0.9}.items()
  ):
    make(folder / name, gains=(("grpo", quality),), evil=EVIL, seed=seed)
  return folder


def page_of(path, *arguments):
  assert main(["compare", *map(str, arguments), "--html", str(path), "--bootstrap", "100"]) == 0
  return Page(path.read_text())


def test_the_page_has_tables_fronts_curves_and_chains_side_by_side(runs, tmp_path, capsys):
  page = page_of(tmp_path / "report.html", *sorted(runs.iterdir()))
  assert page.open == [] and page.tags.count("script") == 0 and "i" not in page.tags
  text = " ".join(page.text)
  for words in (
    "3 runs", "W, row less column", "ε-coverage", "Welfare W", "side by side", "paper",
    "<i>none", "corrected by Holm",
  ):  # fmt: skip
    assert words in text, words
  assert page.tags.count("article") == 3  # prompts, each with what the three runs wrote
  assert sum(value == "side" for name, value in page.attributes if name == "class") == 9
  assert page.tags.count("svg") == 1 + 7  # fronts; the legend and the curves that these runs have


def test_curves_of_files_are_found_by_the_name_of_the_run(runs, tmp_path, capsys):
  files = []
  for each in ("game-linear", "paper"):
    shutil.copy(runs / each / "eval" / "grpo.jsonl", tmp_path / f"{each}.jsonl")
    files.append(tmp_path / f"{each}.jsonl")
  assert page_of(tmp_path / "a.html", *files).tags.count("svg") == 1
  assert page_of(tmp_path / "b.html", *files, "--runs", runs).tags.count("svg") == 1 + 7
  assert main(["compare", *map(str, files), "--runs", str(runs)]) == 2
  assert "--runs is for the curves of --html FILE" in capsys.readouterr().err
