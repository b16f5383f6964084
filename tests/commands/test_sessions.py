"""Who went on with a run is written down, and other versions than before are said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands import train as verb
from loraloom.commands.train import train
from loraloom.errors import CheckError, RunError
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.events import Event
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files
from loraloom.session import provenance
from loraloom.session.provenance_file import read_provenance
from tests.events import message_of


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Run:
    """As one that was killed at its very end: all is to be done again."""
    run = Run(Path(shutil.copytree(trained("mt5"), tmp_path / "run")))
    run.result_file.unlink()
    run.sums_file.unlink()
    return run


def notes_of_resume(run: Run) -> list[str]:
    notes: list[str] = []

    def report(event: Event) -> None:
        if "versions" in message_of(event):
            notes.append(message_of(event))

    train(read_run_recipe(run.recipe_file), resume=run.folder, report=report)
    return notes


def under(monkeypatch: pytest.MonkeyPatch, **others: str) -> None:
    """As if other versions of some packages were installed."""
    real = provenance.version
    monkeypatch.setattr(provenance, "version", lambda name: others.get(name) or real(name))


def test_a_resume_under_other_versions_says_so_and_writes_both_down(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_provenance(run)
    under(monkeypatch, torch="9.0.1", transformers="9.1")
    (note,) = notes_of_resume(run)
    assert "resumed with different versions" in note
    assert f"torch 9.0.1, previously {first.versions['torch']}" in note
    assert f"transformers 9.1, previously {first.versions['transformers']}" in note
    assert "peft" not in note
    known = read_provenance(run)
    assert known.versions == first.versions  # of the process that began it
    assert [each.versions["torch"] for each in (known.sessions or [])] == [first.versions["torch"], "9.0.1"]
    assert (known.sessions or [])[0].started == first.started
    assert changed_files(run) == []  # sealed with all else


def test_what_counts_is_the_process_before_not_the_first(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        under(patch, peft="9.9")
        assert len(notes_of_resume(run)) == 1
        run.result_file.unlink()
        run.sums_file.unlink()
        assert notes_of_resume(run) == []
    run.result_file.unlink()
    run.sums_file.unlink()
    monkeypatch.setattr("platform.python_version", lambda: "3.99.0")
    (note,) = notes_of_resume(run)
    assert "python 3.99.0, previously" in note
    assert "previously 9.9" in note
    assert len(read_provenance(run).sessions or []) == 4


def test_a_finished_run_is_not_gone_on_with(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(trained("mt5"), tmp_path / "run")))
    before = run.provenance_file.read_bytes()
    assert notes_of_resume(run) == []
    assert run.provenance_file.read_bytes() == before


@pytest.mark.parametrize(
    "sessions", [[], {}, "x", [1], [{"started": "2026"}], [{"started": "", "versions": 1}]]
)
def test_sessions_that_are_none_are_damage(run: Run, sessions: Any) -> None:
    known = json.loads(run.provenance_file.read_bytes())
    run.provenance_file.write_text(json.dumps({**known, "sessions": sessions}), encoding="utf-8")
    with pytest.raises(RunError, match=r"provenance\.json: is damaged: `sessions"):
        read_provenance(run)


def test_a_resume_that_is_refused_is_no_session(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = run.provenance_file.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise CheckError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(verb, "require_checks", refuse)
        with pytest.raises(CheckError):
            train(read_run_recipe(run.recipe_file), resume=run.folder)
    assert run.provenance_file.read_bytes() == before
    notes_of_resume(run)
    assert len(read_provenance(run).sessions or []) == 2
