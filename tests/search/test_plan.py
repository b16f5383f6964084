"""A search says what its trials take together before any of them is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import Run

SearchView = Callable[..., Path]


def test_a_search_keeps_a_plan_for_its_heaviest_trials(searched: SearchView) -> None:
    run = Run(searched())
    known = run.read_json(run.provenance_file)
    plan = Provenance.read(run.provenance_file).prediction
    assert plan is not None
    assert plan.waves == (tuple(f"trial-{number:04d}" for number in range(known["together"])),)
    assert plan.memory.parts["adapters"] > 0
    checks = {finding["check"] for finding in run.read_json(run.checks_file)}
    assert {"memory", "disk", "time"} <= checks
