"""The examples of docs/api.md run, in the order in which they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import loraloom
from loraloom.cli.app import app
from loraloom.commands import find_lr

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")

# They run until they are stopped.
SERVERS = {"serve", "ui"}


@pytest.mark.usefixtures("proof_here")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"instruction": f"学校压力 {n} how?", "response": f"先慢慢来 {n}。"} for n in range(10)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "my.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find_lr, "NUM_STEPS", 2)  # of eight adapters each; what they find is not asked
    names: dict[str, Any] = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 10
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
    assert names["merged"].folder.is_dir()
    assert names["page"].is_file()


def test_the_table_names_every_verb_and_a_function_for_it() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)\(", PAGE, flags=re.MULTILINE)
    commands = {
        command.name or (command.callback.__name__ if command.callback else "")
        for command in app.registered_commands
    }
    assert {name for name, _ in rows} == {name.replace("_", "-") for name in commands} - SERVERS
    assert {function for _, function in rows} <= set(loraloom.__all__)


def test_the_readme_links_it() -> None:
    assert "(docs/api.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
