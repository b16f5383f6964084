"""Predict answers what has no answer yet, and gives back what a row is known by."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.commands.compare import compare
from loraloom.commands.predict import predict
from loraloom.errors import DataError, RunError
from loraloom.run.events import Note, Report


def told_of(told: list[str]) -> Report:
    return lambda event: told.append(event.message) if isinstance(event, Note) else None


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    (folder / "ask.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder / "ask.json"


def test_answers_may_be_missing_and_what_was_asked_for_is_kept(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    rows = [
        {"ID": 70, "instruction": "我感到焦虑 1 how?", "output": None, "url": "http://a", "source": "web"},
        {"ID": 71, "instruction": "我感到焦虑 2 how?", "output": "", "url": "http://b", "source": "book"},
        {"ID": 72, "instruction": "我感到焦虑 3 how?", "output": "known", "source": 3},
        {"ID": 73, "instruction": "我感到焦虑 4 how?"},
    ]
    told: list[str] = []
    run, file = trained("mt5"), write_rows(tmp_path, rows)
    answered = list(predict(run, file, keep=["url", "source"], report=told_of(told)))
    assert [list(line) for line in answered] == [
        ["row", "ID", "url", "source_in_file", "source", "answer"]
    ] * 4
    assert [line["ID"] for line in answered] == [70, 71, 72, 73]
    assert [line["url"] for line in answered] == ["http://a", "http://b", None, None]
    assert [line["source_in_file"] for line in answered] == ["web", "book", 3, None]
    assert [line["source"] for line in answered] == [row["instruction"] for row in rows]
    assert "the column `ID` is used as the rows' id and kept with the answers" in told
    assert "the column `source` of the file is named `source_in_file` in the output" in told
    bare = write_rows(tmp_path, [{"instruction": row["instruction"]} for row in rows])
    assert [line["answer"] for line in predict(run, bare)] == [line["answer"] for line in answered]
    assert list(next(iter(predict(run, bare)))) == ["row", "source", "answer"]


def test_what_is_wrong_is_said_before_the_model_is_loaded(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loaded(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(importlib.import_module("loraloom.commands.predict"), "load_run", loaded)
    file = write_rows(tmp_path, [{"instruction": "甲"}])
    with pytest.raises(DataError, match="--keep: there is no column `url`"):
        predict(trained("mt5"), file, keep=["url"])
    with pytest.raises(RunError, match=r"has no experiment `mian`.*Did you mean `main`"):
        predict(trained("mt5"), file, experiment="mian")


def test_on_the_command_line(trained: Callable[..., Path], tmp_path: Path) -> None:
    file = write_rows(tmp_path, [{"uid": "a-1", "instruction": "我", "url": "u", "lang": "zh"}])
    words = ["predict", str(trained("mt5")), str(file), "--keep", "url", "--keep", "lang"]
    ended = CliRunner().invoke(app, words, catch_exceptions=False)
    line = json.loads(ended.stdout)
    assert {key: line[key] for key in ("row", "uid", "url", "lang", "source")} == {
        "row": 1,
        "uid": "a-1",
        "url": "u",
        "lang": "zh",
        "source": "我",
    }
    assert "the column `uid` is used as the rows' id" in ended.stderr


def test_of_a_run_that_has_not_ended_the_notes_are_said(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained("mt5"), tmp_path / "run"))
    (run / "result.json").unlink()
    told: list[str] = []
    list(predict(run, write_rows(tmp_path, [{"instruction": "甲"}]), report=told_of(told)))
    assert "training has not ended; only adapters that are finished so far are used" in told


def test_advice_on_rows_does_not_ask_to_change_a_settled_recipe(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    file = write_rows(tmp_path, [{"foo": "x", "bar": "y"}])
    for ask in (
        lambda: predict(trained("mt5"), file),
        lambda: compare(trained("mt5"), prompts_file=file),
    ):
        with pytest.raises(DataError, match=r"give this file the columns of the run's data") as caught:
            ask()
        assert "Say in the recipe" not in str(caught.value)
