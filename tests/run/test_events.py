"""Every kind of event becomes a line of the log and is read back from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loraloom.checks.finding import Finding
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.result import RetainLoss
from loraloom.run.events import (
    AdapterExport,
    AnswerProgress,
    BaseChoices,
    CheckpointDamage,
    CheckpointSave,
    CheckResults,
    Evaluation,
    Event,
    ExperimentEnd,
    FileChange,
    MemoryLimit,
    Note,
    Resume,
    RowCounts,
    StepTiming,
    TrainingPlan,
    TrialStart,
    UnknownEvent,
    WarningNote,
    read_event,
    read_events,
)
from loraloom.run.events.log_lines import LOGGED
from loraloom.run.folder import create_run
from tests.events import train_step

OLD = Path(__file__).parents[1] / "old_runs" / "v0.1"
FINDING = Finding("ok", "disk", "training", "a checkpoint takes 12 MiB")
HISTORY: list[Event] = [
    Note(message="answers were cut", step=3),
    train_step(3, "wide"),
    Evaluation(
        step=3, experiment="wide", experiment_step=3, epoch=0.5, figures={"eval_loss": 2.0, "chrf": 31.0}
    ),
    ExperimentEnd(
        step=3,
        experiment="wide",
        experiment_step=3,
        status="failed",
        reason="loss inf",
        best_step=None,
        best_metric=None,
        forgetting=0.25,
    ),
    ExperimentEnd(
        step=4,
        experiment="narrow",
        experiment_step=4,
        status="done",
        reason="",
        best_step=4,
        best_metric=2.0,
        forgetting=0.25,
        retain_pairs={"deu_Latn-eng_Latn": RetainLoss(2.5, 0.5)},
    ),
    CheckpointSave(step=3, path="step-000003"),
    MemoryLimit(step=4, phase="evaluation", tried=8, pass_tokens=None, eval_rows=4),
    MemoryLimit(step=4, phase="lifted", experiment="wide", tried=900, pass_tokens=512, eval_rows=None),
    Resume(step=3, reason="the newest valid checkpoint"),
    FileChange(path="split.json", what="it is written again"),
    CheckpointDamage(path="step-000002", problem="state.json is missing"),
    AdapterExport(experiment="wide", reason="it was missing"),
    TrialStart(experiment="trial-0000", parameters={"lora.r": 8, "training.learning_rate": 1e-3}),
]
ANNOUNCEMENTS: list[Event] = [
    WarningNote(message="the report may show other figures"),
    RowCounts(train=40, eval=6, test=0),
    BaseChoices(choices={"dtype": Choice("float32", "the model is small")}),
    CheckResults(findings=[FINDING]),
    StepTiming(),
    TrainingPlan(folder="runs/a", choices={}, plan=None, findings=[FINDING]),
    AnswerProgress(done=4, total=12),
]


def test_no_kind_is_left_out_here() -> None:
    assert {type(event) for event in HISTORY} == set(LOGGED)
    every = {kind for kind in Event.__subclasses__() if kind is not UnknownEvent}
    assert {type(event) for event in (*HISTORY, *ANNOUNCEMENTS)} == every
    assert {kind.version for kind in every} == {1}
    assert len({kind.kind for kind in every}) == len(every)


@pytest.mark.parametrize("event", HISTORY, ids=lambda event: event.kind)
def test_what_is_logged_is_read_back(event: Event, tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    run.append_event(event)
    (read,) = run.events()
    assert read == event
    assert read.time
    (line,) = run.events_file.read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["event"] == event.kind


@pytest.mark.parametrize("event", [*HISTORY, *ANNOUNCEMENTS], ids=lambda event: event.kind)
def test_every_event_is_json(event: Event) -> None:
    line = json.loads(json.dumps(event.to_json()))
    assert (line["event"], line["time"]) == (event.kind, "")


def test_every_line_of_0_1_is_read_and_would_be_written_alike() -> None:
    lines = [line for log in OLD.glob("*/events.jsonl") for line in log.read_text("utf-8").splitlines()]
    kinds = set()
    for line in map(json.loads, lines):
        event = read_event(line)
        assert event is not None
        kinds.add(event.kind)
        assert event.to_json() == {key: value for key, value in line.items() if key != "log"}
    assert {"train", "eval", "save", "end", "trial"} <= kinds


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "of the future"},
        {"event": ["train"]},
        {"version": 2},
        {"version": "1"},
        {"loss": None},
        {"loss": float("nan")},
        {"loss": 10**400},
        {"step": {}},
        {"experiment": 7},
        {"time": []},
    ],
    ids=str,
)
def test_a_line_that_cannot_be_interpreted_is_kept_and_passed_over(changes: dict[str, object]) -> None:
    line = train_step(3).to_json() | changes
    event = read_event(line)
    assert isinstance(event, UnknownEvent)
    assert event.to_json() == line


@pytest.mark.parametrize("limit", [0, -1, "many", 1.5])
def test_a_limit_of_memory_is_a_count(limit: object) -> None:
    line = MemoryLimit(step=4, phase="training", tried=8, pass_tokens=4, eval_rows=None).to_json()
    assert isinstance(read_event(line | {"pass_tokens": limit}), UnknownEvent)


def test_keys_of_a_newer_version_are_no_harm() -> None:
    assert read_event(train_step(3).to_json() | {"flops": 1e9}) == train_step(3)


def test_of_a_step_that_was_taken_twice_the_last_counts() -> None:
    first, again, other = train_step(1, loss=3.0), train_step(1, loss=2.0), train_step(1, "wide")
    lines = [json.dumps(event.to_json()) for event in (first, other, again)]
    assert read_events([*lines, '{"event": "tra', "7", "[]", ""]) == [other, again]
