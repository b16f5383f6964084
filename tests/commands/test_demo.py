"""The demo prints the starter's three prompts with what base and adapter say, and its report has them."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.run.folder import Run
from loraloom.starter import data_file
from loraloom.text.visible import visible

ASKED = [row["instruction"] for row in json.loads(data_file("prompts").read_text(encoding="utf-8"))]


@pytest.fixture
def trained_already(trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run in the place of the demo's own training; the rest of the demo is as it is."""
    run = Path(shutil.copytree(trained("mt5"), tmp_path / "run"))
    module = importlib.import_module("loraloom.commands.demo")
    monkeypatch.setattr(module, "train", lambda *_, **__: SimpleNamespace(run=Run(run)))
    return run


def test_the_three_prompts_are_printed_with_base_and_adapter(trained_already: Path) -> None:
    ended = CliRunner().invoke(app, ["demo"], catch_exceptions=False)
    assert len(ASKED) == 3
    compared = json.loads((trained_already / "compare" / "prompts.json").read_text(encoding="utf-8"))
    for row, text in zip(compared["rows"], ASKED, strict=True):
        assert row["source"] == text
        answers = [f"  {model}: {row['answers'][model]}" for model in ("base", "main")]
        said = visible("\n".join(answers))
        assert f"\n{text}\n{said}\n" in ended.stdout
    page = (trained_already / "report.html").read_text(encoding="utf-8")
    section = page.partition('<section id="prompts"')[2].partition("</section>")[0]
    assert all(text in section for text in ASKED)
    assert ended.stdout.splitlines()[-1].endswith("report.html")


def test_as_json_they_stand_beside_the_test_rows(trained_already: Path) -> None:
    shown = json.loads(CliRunner().invoke(app, ["demo", "--json"], catch_exceptions=False).stdout)
    assert [row["source"] for row in shown["prompts"]["rows"]] == ASKED
    assert shown["what"] == "eval"
    assert shown["report"] == str(trained_already / "report.html")
