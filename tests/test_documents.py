"""What is written about the project: the README leads everywhere, and no link leads nowhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]


def links(page):
  text = re.sub(r"```.*?```|`[^`\n]*`", "code", page.read_text(encoding="utf-8"), flags=re.S)
  return [each.partition("#")[0] for each in re.findall(r"\]\(([^)\s]+)\)", text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
  local = [each for each in links(page) if each and "://" not in each]
  assert [each for each in local if not (page.parent / each).exists()] == []


def test_the_readme_links_every_document():
  named = {each for each in links(ROOT / "README.md")}
  assert {f"docs/{page.name}" for page in ROOT.glob("docs/*.md")} <= named
