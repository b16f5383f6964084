"""Notebooks are stored without results, and say the same in both languages; `make notebooks` runs them."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(file: Path, kind: str = "code") -> list[dict[str, Any]]:
    document = json.loads(file.read_text(encoding="utf-8"))
    return [cell for cell in document["cells"] if cell["cell_type"] == kind]


def code(file: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(file)]


def without_comments(text: str) -> str:
    return "\n".join(re.sub(r"(^|\s+)# .*$", "", line) for line in text.splitlines())


def test_there_are_three() -> None:
    assert [file.name for file in NOTEBOOKS] == [
        "byt5_low_resource.ipynb",
        "quickstart.ipynb",
        "quickstart.zh.ipynb",
    ]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.name)
def test_a_notebook_is_stored_without_results_and_its_code_is_python(file: Path) -> None:
    for cell in cells(file):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    for text in code(file):
        ast.parse(re.sub(r"(?m)^(\s*)%.*$", r"\1pass", text))
    ids = [cell["id"] for kind in ("code", "markdown") for cell in cells(file, kind)]
    assert len(ids) == len(set(ids))


def test_both_languages_run_the_same_code() -> None:
    english, chinese = (FOLDER / f"quickstart{suffix}.ipynb" for suffix in ("", ".zh"))
    assert list(map(without_comments, code(chinese))) == list(map(without_comments, code(english)))
    assert len(cells(chinese, "markdown")) == len(cells(english, "markdown"))
    assert all(re.search("[\u4e00-\u9fff]", "".join(cell["source"])) for cell in cells(chinese, "markdown"))
