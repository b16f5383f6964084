"""What docs/architecture.md says about reading a step is what a step passes; the counts of the house."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tools import house, house_copies, house_trace

pytestmark = pytest.mark.usefixtures("without_collections")
ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PARTS = ("loraloom", "tests", "tools", "benchmarks")
# `lock.py`, `web/security.py`; not an example such as `train.py:17` or `NAME_format.py`.
NAMED = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)`")


@pytest.fixture(scope="module")
def traced() -> dict[str, dict[str, Any]]:
    return house_trace.trace_all()


@pytest.fixture(scope="module")
def reading(traced: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return traced["reading"]


def test_a_step_is_understood_from_the_files_that_the_page_lists(reading: dict[str, Any]) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## How a step works")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([a-z_/]+\.py)` \|", section, flags=re.MULTILINE)
    assert sorted(listed) == sorted(reading["which"])
    assert listed[0] == house_trace.FIRST_READ


def test_the_files_to_read_become_no_more(reading: dict[str, Any]) -> None:
    """Lower these figures when they fall; raising them needs a reason."""
    assert reading["files"] <= 5
    assert reading["lines"] <= 965
    assert reading["lines of the functions entered"] <= 580


def test_the_files_that_a_recipe_passes_become_no_more(traced: dict[str, dict[str, Any]]) -> None:
    """Six files read a recipe, and six declare its sections and read single values.

    Lower these figures when they fall. A seventh file of either means that a step of reading is in two files,
    or that the values of a section are not beside it.
    """
    reading, every = traced["recipe_reading"], traced["recipe"]
    assert reading["files"] <= 6
    assert reading["lines"] <= 1300
    assert every["files"] <= 12
    assert set(reading["which"]) <= set(every["which"])
    assert reading["files"] + reading["more files that declare and validate settings"] == every["files"]


def test_the_house_stays_as_it_was_cleaned() -> None:
    counts = house.from_text()
    assert not counts[f"files over {house.LONGEST} lines"]
    for name in (
        "import cycles",
        "file names with several meanings",
        "classes that are participles",
        "files in commands/ that are no verb",
    ):
        assert not counts[name], name


def test_a_function_of_one_return_is_an_accessor_and_nested_functions_are_part_of_theirs() -> None:
    functions = list(house_trace.outer_functions("training/engine.py"))
    kinds = [each.is_accessor for each in functions]
    assert True in kinds
    assert False in kinds
    lines = [line for each in functions for line in each.lines]
    assert len(lines) == len(set(lines))


def test_a_run_of_lines_in_two_places_is_found_once_and_whole() -> None:
    lines = [f"    value_{number} = compute({number})" for number in range(9)]
    body = "\n".join(lines)
    texts = {
        "one": f'import a\n\ndef first(x):\n    """Say."""\n{body}\n    return 1\n',
        "two": f"def second(y):\n    # why\n{body}\n    return 2\n",
        "three": "\n".join(["def third(z):", *lines[: house_copies.SHORTEST - 1], "    return 3"]) + "\n",
    }
    ((name, other, run),) = house_copies.copied_runs(texts)
    assert {name, other} == {"one", "two"}
    assert run == [line.strip() for line in lines]


def is_there(text: Path, name: str, there: list[str]) -> bool:
    """Whether a file exists that a text names; without a folder, a module means a file beside it."""
    if text.suffix == ".py" and "/" not in name:
        return (text.parent / name).is_file()
    return any(path.endswith(f"/{name}") for path in there)


def test_files_that_texts_name_are_there() -> None:
    """A file keeps its name in docstrings, comments and pages after it has got another one."""
    there = [
        f"/{path.relative_to(ROOT).as_posix()}" for part in PARTS for path in (ROOT / part).rglob("*.py")
    ]
    texts = [*(ROOT / "loraloom").rglob("*.py"), *(ROOT / "docs").glob("*.md")]
    named = [(text, name) for text in texts for name in NAMED.findall(text.read_text(encoding="utf-8"))]
    assert len(named) > 50
    assert [(text.name, name) for text, name in named if not is_there(text, name, there)] == []
