"""check --deep: one batch by heart, then the range test."""

from __future__ import annotations

import json

from tests.flows.conftest import CANARY, Project


def test_deep_says_of_each_experiment_whether_it_learns(project: Project) -> None:
    sets = ("--set", "experiments.narrow.training.learning_rate=1e-7")
    ended = project.call("check", "recipe.yaml", "--deep", "--json", *sets)
    assert ended.code == 0, ended.stderr
    document = json.loads(ended.stdout)
    learning = [each for each in document["findings"] if each["check"] == "learning"]
    assert [each["where"] for each in learning] == ["wide", "narrow"]
    assert all("60 steps at" in each["message"] for each in learning)
    assert learning[1]["level"] != "ok"
    assert document["range_test"]["results"]
    assert CANARY not in json.dumps(document["findings"])


def test_without_eval_rows_there_is_no_range_test(project: Project) -> None:
    sets = ("--set", "data.eval=0", "--set", "experiments=")
    ended = project.call("check", "recipe.yaml", "--deep", "--json", *sets)
    assert ended.code == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert "range_test" not in document
    assert any(each["check"] == "learning" for each in document["findings"])
    assert not (project.folder / "runs").exists()


def test_deep_needs_the_model(project: Project) -> None:
    ended = project.call("check", "recipe.yaml", "--deep", "--data-only")
    assert ended.code == 2
    assert "--data-only cannot be combined with --deep" in " ".join(ended.stderr.split())
