"""Uninterrupted runs to compare with, each made once a session; and the table of what was tried."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.reference import STEP, Reference, at_operation, is_long
from tests.faults.training import fruits, write_training
from tests.faults.warm import Warm
from tests.tiny import SHALLOW

# What a test tried, in its report: [case, how many times, what came of it].
PROPERTY = "fault"


@pytest.fixture(scope="session")
def reference(
    warm: Warm, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Reference]:
    """`reference("together")`, one checkpoint kept; `reference("in waves")`, two kept and two waves."""

    @functools.cache
    def made(kind: str) -> Reference:
        folder = tmp_path_factory.mktemp("reference")
        recipe = write_training(folder, tiny(SHALLOW), keep=1 if kind == "together" else 2)
        faults = {} if kind == "together" else {"waves": [["long", "short"], ["stopped"]]}
        run, counted = folder / "run", at_operation(folder / "run", 0)
        ended = warm.call("train", recipe, "--out", run, cwd=folder, faults={**counted, **faults})
        assert ended.code == 0, ended.stderr
        lines = Path(counted["log"]).read_text().splitlines()
        operations = tuple(line.replace(f"{run}/", "") for line in lines)
        return Reference(warm, recipe, run, fruits(run), operations, faults)

    return made


@pytest.fixture(scope="session")
def interrupted(
    reference: Callable[[str], Reference], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`interrupted("in waves")`: a run of that reference, killed in the middle; not to be changed."""

    @functools.cache
    def made(kind: str) -> Path:
        run = tmp_path_factory.mktemp("interrupted") / "run"
        reference(kind).train(run, call=STEP, number=9)
        return run

    return made


@pytest.fixture
def trying(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """`trying("killed inside a save", 3)`: say what a test is about to try, for the table at the end."""

    def record(case: str, times: int = 1, note: str = "") -> None:
        record_property(PROPERTY, [case, times, note])

    return record


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """After the long form, a table: what was tried, how often, and how often it came out right."""
    if not is_long():
        return
    cases: dict[str, list[Any]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, value in getattr(report, "user_properties", []):
                if key == PROPERTY:
                    case, times, note = value
                    row = cases.setdefault(case, [0, 0, note])
                    row[0] += times
                    row[1] += times if outcome == "passed" else 0
    terminalreporter.section("faults")
    terminalreporter.write_line("| what happened | times | came out right | what that means |")
    terminalreporter.write_line("|---|---:|---:|---|")
    for case, (times, right, note) in sorted(cases.items()):
        terminalreporter.write_line(f"| {case} | {times} | {right} | {note} |")
