"""The plan is said before the first step, kept with the run, and not made anew by a resume."""

from __future__ import annotations

import json
from pathlib import Path

from loraloom.commands.train import train
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Event, TrainingPlan
from loraloom.run.folder import Run
from tests.flows.conftest import Project


def plan_of(run: Path) -> dict[str, object]:
    plan: dict[str, object] = json.loads((run / "provenance.json").read_text(encoding="utf-8"))["plan"]
    return plan


def test_train_says_the_plan_before_its_first_step(project: Project) -> None:
    ended = project.call("train", "recipe.yaml", "--out", "run")
    assert ended.code == 0, ended.stderr
    lines = ended.stderr.splitlines()
    at = lines.index("plan")
    assert lines[at + 1] == "  trains wide, narrow together, in one wave"
    subjects = [line.split()[0] for line in lines[at + 1 :] if line.startswith("  ") and line[2] != " "]
    assert subjects[:4] == ["trains", "memory", "time", "disk"]
    assert max(map(len, lines[at : at + 12])) <= 100
    first_step = next(number for number, line in enumerate(lines) if ": step 1/" in line)
    assert at < first_step
    plan = plan_of(project.folder / "run")
    assert plan["waves"] == [["wide", "narrow"]]
    checks = json.loads((project.folder / "run" / "checks.json").read_text(encoding="utf-8"))
    assert {"memory", "disk", "time"} <= {finding["check"] for finding in checks}


def test_the_event_has_the_plan_and_a_resume_the_same_one(project: Project) -> None:
    told: list[TrainingPlan] = []

    def report(event: Event) -> None:
        if isinstance(event, TrainingPlan):
            told.append(event)

    recipe, folder = read_recipe(project.folder / "recipe.yaml"), project.folder / "run"
    train(recipe.in_folder(project.folder), out=folder, report=report)
    Run(folder).result_file.unlink()  # as if it had been killed at its very end
    train(recipe.in_folder(project.folder), resume=folder, report=report)
    first, second = told
    assert first.plan == second.plan == Provenance.read(Run(folder).provenance_file).prediction
    assert [finding.check for finding in first.findings] == ["memory", "disk", "time"]


def test_json_shows_no_plan_on_stderr(project: Project) -> None:
    ended = project.call("train", "recipe.yaml", "--out", "run", "--json")
    assert ended.code == 0
    assert "plan" not in ended.stderr


def test_check_says_what_training_would_take_and_leaves_nothing(project: Project) -> None:
    before = sorted(project.folder.iterdir())
    ended = project.call("check", "recipe.yaml", "--json")
    found = {finding["check"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert "at the peak" in found["memory"]["message"]
    assert "per epoch" in found["time"]["message"]
    assert "a checkpoint takes" in found["disk"]["message"]
    assert sorted(project.folder.iterdir()) == before
