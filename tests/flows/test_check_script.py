"""`loraloom check SCRIPT`: what it prints, how it ends, and what it writes."""

from __future__ import annotations

import json

import pytest

from loraloom.recipe.reading import parse_recipe
from tests.flows.conftest import Project, assert_refused
from tests.scripts.copied import SCRIPT, changed


def test_the_command_ends_in_1_after_an_error_and_shows_findings_and_recipe(project: Project) -> None:
    (project.folder / "train.py").write_text(
        changed(("TaskType.SEQ_2_SEQ_LM", '"CAUSAL_LM", inference_mode=True'))
    )
    ended = project.call("check", "train.py")
    assert ended.code == 1
    assert "error adapter: train.py:" in ended.stdout
    assert "\nmodel_name_or_path: google/flan-t5-base  # train.py:" in ended.stdout
    assert "Next:" not in ended.stderr
    document = json.loads(project.call("check", "train.py", "--json").stdout)
    assert set(document) == {"findings", "recipe"}
    assert {"level", "check", "where", "message", "fix"} == set(document["findings"][0])


def test_the_recipe_is_written_to_a_new_file_alone(project: Project) -> None:
    (project.folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    ended = project.call("check", "train.py", "--out", "meant.yaml")
    assert ended.code == 0, ended.stderr
    assert ended.stderr.endswith("Next: loraloom check meant.yaml\n")
    assert parse_recipe((project.folder / "meant.yaml").read_text(), name="meant.yaml")
    assert_refused(project.call("check", "train.py", "--out", "meant.yaml"), "is not overwritten")
    assert_refused(project.call("check", "train.py", "--out", "no/such.yaml"), "cannot be written")


@pytest.mark.parametrize(
    "option", [("--set", "seed=1"), ("--data-only",), ("--find-lr",), ("--deep",), ("--allow", "leakage")]
)
def test_options_of_a_recipe_are_refused(option: tuple[str, ...], project: Project) -> None:
    (project.folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    ended = project.call("check", "train.py", *option)
    assert ended.code == 2
    assert "can only be used with a recipe" in ended.stderr
