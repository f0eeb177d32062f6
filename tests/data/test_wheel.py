"""A built wheel, not only a clone, carries every data file that the package reads."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import gtalign_jax
from importlib import resources
from gtalign_jax.data import prompts, sources
from gtalign_jax.synthesize import labels
from gtalign_jax.sections import DataConfig
from gtalign_jax.types import FORMS
print(gtalign_jax.__file__)
print(sum(len(sources.load(DataConfig(), split)) for split in ("train", "test")))
print(all("<payoff>" in prompts.template_text(name) for name in ("compact", "full")))
print(all(prompts.template_text("full", form) for form in FORMS))
print("<response>" in labels.chain(sources.load(DataConfig(), "test")[0], 0))
print("{{ name }}" in resources.files("gtalign_jax.report").joinpath("base.html").read_text("utf-8"))
"""


def builds_here():
  """From 70.1 on setuptools builds wheels by itself; else pip fetches one for the build."""
  try:
    version = importlib.metadata.version("setuptools")
  except importlib.metadata.PackageNotFoundError:
    return False
  return tuple(map(int, version.split(".")[:2])) >= (70, 1)


@pytest.mark.slow
def test_the_wheel_carries_data_files(tmp_path):
  # a copy: building writes build/ and *.egg-info next to setup.py, which other tests may be using
  clone = tmp_path / "clone"
  keep = shutil.ignore_patterns("__pycache__")
  shutil.copytree(ROOT / "gtalign_jax", clone / "gtalign_jax", ignore=keep)
  for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(ROOT / name, clone)
  pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
  quiet = {"capture_output": True, "text": True}
  flags = ["--no-deps", "-w", str(tmp_path), *(["--no-build-isolation"] if builds_here() else [])]
  built = subprocess.run([*pip, "wheel", str(clone), *flags], **quiet)
  assert built.returncode == 0, built.stderr
  (wheel,) = tmp_path.glob("*.whl")
  names = set(zipfile.ZipFile(wheel).namelist())
  for path in (ROOT / "gtalign_jax").rglob("*"):
    if path.suffix in (".jsonl", ".txt", ".html", ".toml", ".js") or path.name == "card.md":
      assert path.relative_to(ROOT).as_posix() in names

  target = tmp_path / "site"
  subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True)
  environment = os.environ | {"PYTHONPATH": str(target)}
  done = subprocess.run([sys.executable, "-c", CODE], env=environment, cwd=tmp_path, **quiet)
  assert done.returncode == 0, done.stderr
  where, count, *found = done.stdout.split()
  assert Path(where).is_relative_to(target)
  assert int(count) >= 240
  assert found == ["True"] * 4
