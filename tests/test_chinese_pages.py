"""Each page that a user needs has a Chinese version beside it, with the same code, figures and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Pages for those who work on LoRALoom.
WITHOUT = {"architecture.md", "benchmarks.md", "chinese.md", "performance.md", "results.md"}
PAGES = sorted(
    page for page in (ROOT / "docs").glob("*.md") if page.name not in WITHOUT and ".zh." not in page.name
)
EVERY = sorted([*ROOT.glob("README*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def chinese(page: Path) -> Path:
    return page.with_name(f"{page.stem}.zh.md")


def names(page: Path) -> str:
    return page.stem


def is_code(text: str) -> list[bool]:
    """Whether each line is one of code: between fences, with them, or indented by four spaces."""
    found, is_fenced = [], False
    for line in text.splitlines():
        is_fence = line.startswith("```")
        found.append(is_fenced or is_fence or line.startswith("    "))
        is_fenced ^= is_fence
    return found


def code_of(text: str) -> list[str]:
    """Every line of code, without its comment, which begins with a `#` after white space."""
    lines = zip(text.splitlines(), is_code(text), strict=True)
    return [re.sub(r"(^|\s+)#( .*|$)", "", line).rstrip() for line, code in lines if code]


def prose_of(text: str) -> str:
    lines = zip(text.splitlines(), is_code(text), strict=True)
    return "".join(f"{line}\n" for line, code in lines if not code)


def rows_of(text: str) -> list[str]:
    return [line for line in prose_of(text).splitlines() if line.startswith("|")]


def figures_of(row: str) -> list[list[str]]:
    """The figures in each cell, sorted, because a sentence in Chinese may name them in another order."""
    return [sorted(re.findall(r"\d+(?:[.,]\d+)*", cell)) for cell in row.split("|")]


def inline_code_of(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", re.sub(r"\s*\n\s*", " ", prose_of(text))))


def test_the_pages_without_a_chinese_version_are_there() -> None:
    assert {name for name in WITHOUT if not (ROOT / "docs" / name).is_file()} == set()
    assert len(PAGES) >= 6


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_page_and_its_chinese_version_link_to_each_other(page: Path) -> None:
    assert chinese(page).is_file(), f"{page.name} has no {chinese(page).name}"
    assert f"\n[中文]({chinese(page).name})\n" in "\n".join(read(page).splitlines()[:4])
    assert f"\n[English]({page.name})\n" in "\n".join(read(chinese(page)).splitlines()[:4])
    assert f"(docs/{chinese(page).name})" in read(ROOT / "README.zh.md")


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_both_versions_have_the_same_code(page: Path) -> None:
    assert code_of(read(chinese(page))) == code_of(read(page))
    assert inline_code_of(read(chinese(page))) == inline_code_of(read(page))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_both_versions_have_the_same_headings_and_tables(page: Path) -> None:
    levels = [re.findall(r"^#+ ", prose_of(read(each)), flags=re.MULTILINE) for each in (page, chinese(page))]
    assert levels[0] == levels[1]
    for ours, theirs in zip_longest(rows_of(read(page)), rows_of(read(chinese(page))), fillvalue=""):
        assert figures_of(theirs) == figures_of(ours), theirs


def links_of(page: Path) -> Iterator[tuple[str, Path]]:
    for link in LINK.findall(prose_of(read(page))):
        yield link, page.parent / link


@pytest.mark.parametrize("page", EVERY, ids=names)
def test_every_link_leads_to_a_file(page: Path) -> None:
    assert [link for link, target in links_of(page) if not target.exists()] == []


@pytest.mark.parametrize("page", [page for page in EVERY if ".zh." in page.name], ids=names)
def test_a_chinese_page_links_to_chinese_pages(page: Path) -> None:
    english = page.name.replace(".zh.", ".")
    led_away = [link for link, target in links_of(page) if chinese(target).is_file() and link != english]
    assert led_away == []


def test_a_difference_in_code_or_figures_is_found() -> None:
    text = "# A\n\nRun `x`.\n\n    loraloom check a  # all\n\n```sh\nls  # here\n```\n\n| a | 1.5 |\n"
    assert code_of(text) == ["    loraloom check a", "```sh", "ls", "```"]
    assert code_of(text.replace("# here", "# 这里")) == code_of(text)
    assert code_of(text.replace("check a", "check b")) != code_of(text)
    assert inline_code_of(text) == {"x"}
    assert [figures_of(row) for row in rows_of(text)] == [[[], [], ["1.5"], []]]
