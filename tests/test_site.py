"""The pages of the documentation site: none is left out, and every link leads to one of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tools import build_site

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "pages"
    build_site.stage(folder)
    return folder


def test_every_page_is_in_the_navigation_once(site: Path) -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(path.name for path in site.glob("*.md"))


def test_every_link_leads_to_a_page_or_an_image(site: Path) -> None:
    for page in site.glob("*.md"):
        prose = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
            assert (site / link).is_file(), f"{page.name}: {link}"


def test_the_commands_are_those_of_the_command_line_in_both_languages(site: Path) -> None:
    english, chinese = ((site / f"commands{suffix}.md").read_text(encoding="utf-8") for suffix in ("", ".zh"))
    assert "## loraloom check" in english
    assert "--data-only" in english
    assert re.findall(r"^## .*", english, re.MULTILINE) == re.findall(r"^## .*", chinese, re.MULTILINE)
    assert re.search("[\u4e00-\u9fff]", chinese.partition("## loraloom check")[2])
