"""The documents of a run: those of 0.1 are read, and what is read is written again as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run.documents.comparison import Comparison
from loraloom.run.documents.document import Document
from loraloom.run.documents.provenance import ProcessRecord, Provenance
from loraloom.run.documents.range_test import RangeTest
from loraloom.run.documents.result import Result
from loraloom.run.documents.search import SearchRecord
from loraloom.run.documents.split import SplitRecord

OLD = Path(__file__).parents[1] / "old_runs" / "v0.1"
DOCUMENTS: dict[str, type[Document]] = {
    "provenance.json": Provenance,
    "split.json": SplitRecord,
    "result.json": Result,
    "search.json": SearchRecord,
    "range_test.json": RangeTest,
    "comparison.json": Comparison,
}


def old_files(name: str) -> list[Path]:
    found = sorted(OLD.glob("*/compare/*.json" if name == "comparison.json" else f"*/{name}"))
    assert found
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_0_1_is_written_again_as_it_was(name: str) -> None:
    for path in old_files(name):
        read = DOCUMENTS[name].read(path)
        assert json.loads(read.text()) == json.loads(path.read_bytes())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_keys_of_a_newer_version_are_kept(name: str, tmp_path: Path) -> None:
    values = json.loads(old_files(name)[0].read_bytes()) | {"of_the_future": {"a": [1, None]}}
    (tmp_path / name).write_text(json.dumps(values), encoding="utf-8")
    assert json.loads(DOCUMENTS[name].read(tmp_path / name).text()) == values


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("content", ["[]", "7", "{}", "{", '{"a":' * 100_000, "\x00"])
def test_a_damaged_document_is_one_error_of_ours(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=rf"{name}: (is damaged|cannot be read)") as refused:
        DOCUMENTS[name].read(tmp_path / name)
    assert len(refused.value.problems) == 1


def test_a_document_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the run has no provenance\.json"):
        Provenance.read(tmp_path / "provenance.json")


@pytest.fixture
def begun() -> Provenance:
    return Provenance(
        started="2026-11-27T10:00:00+00:00", folder="/data", versions={"torch": "2.1"}, seeds={}, choices={}
    )


def test_the_first_process_is_the_one_that_began_the_run(begun: Provenance) -> None:
    later = ProcessRecord(started="2026-11-28T10:00:00+00:00", versions={"torch": "2.2", "optuna": "4.1"})
    assert begun.version_changes(later) == ["torch 2.2, previously 2.1", "optuna 4.1, previously none"]
    resumed = begun.with_process(later)
    assert [process.started[:10] for process in resumed.sessions or []] == ["2026-11-27", "2026-11-28"]
    assert resumed.version_changes(later) == []
    assert "sessions" not in begun.to_json()


def test_a_plan_that_cannot_be_interpreted_is_kept_and_not_shown(begun: Provenance) -> None:
    known = Provenance.model_validate(begun.to_json() | {"plan": {"of": "another version"}})
    assert known.prediction is None
    assert known.allowing(["leakage"]).to_json()["plan"] == {"of": "another version"}


@pytest.mark.parametrize(
    "choices",
    [
        {"dtype": {"value": "float64", "reason": ""}},
        {"threads": {"value": "0", "reason": ""}},
        {"threads": {"value": "²", "reason": ""}},
        {"pass_tokens": {"value": "-5", "reason": ""}},
        {"device": "cpu"},
    ],
    ids=str,
)
def test_choices_that_nothing_could_be_computed_with_are_damage(
    begun: Provenance, choices: dict[str, object], tmp_path: Path
) -> None:
    file = tmp_path / "provenance.json"
    file.write_text(json.dumps(begun.to_json() | {"choices": choices}), encoding="utf-8")
    with pytest.raises(RunError, match=r"provenance\.json: is damaged: `choices"):
        Provenance.read(file)
