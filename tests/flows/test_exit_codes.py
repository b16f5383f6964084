"""0 done, 1 the input or the run failed, 2 usage, 3 some of several failed; 130, 143: tests/faults."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.flows.conftest import Project, TrainedRun, assert_refused

USAGE = {
    "no verb": ("--nope",),
    "an unknown verb": ("trian", "recipe.yaml"),
    "no recipe": ("train",),
    "an unknown option": ("train", "recipe.yaml", "--epochs", "3"),
    "two recipes": ("train", "recipe.yaml", "recipe.yaml"),
    "out and resume": ("train", "recipe.yaml", "--out", "new", "--resume", "first"),
    "no such split": ("compare", "first", "--split", "train"),
    "a moved base of a new run": ("train", "recipe.yaml", "--base", "elsewhere"),
    "no file to answer": ("predict", "first"),
}


@pytest.mark.parametrize("case", USAGE)
def test_usage_is_2(case: str, trained: TrainedRun) -> None:
    ended = trained.project.call(*USAGE[case])
    assert ended.code == 2
    assert ended.stdout == ""
    assert "Usage: " in ended.stderr
    assert "Traceback" not in ended.stderr


FAILED = {
    "no such recipe": (("check", "recipes.yaml"), "Did you mean `recipe.yaml`?"),
    "a folder": (("train", "first"), "is a folder, not a recipe"),
    "no such run": (("compare", "frist"), "there is no such run. Allowed: first"),
    "no run": (("compare", "."), "this folder is not a run"),
    "a file as a run": (("compare", "data.json"), "there is no such run"),
    "no such experiment": (("compare", "first", "--experiment", "main"), "Allowed: wide, narrow"),
    "no such prompts": (
        ("predict", "first", "date.json", "--experiment", "base"),
        "Did you mean `data.json`?",
    ),
    "prompts and a split": (
        ("compare", "first", "--split", "test", "--prompt", "x"),
        "Give only one of them",
    ),
    "a blank prompt": (("compare", "first", "--prompt", " "), "prompt 1 is empty"),
    "a name that leaves the run": (
        ("compare", "first", "--name", "../../x"),
        "is not a valid name for a comparison",
    ),
    "an absolute name": (
        ("compare", "first", "--name", "/elsewhere/x"),
        "is not a valid name for a comparison",
    ),
    "no data": (("init", "dat.json"), "Did you mean `data.json`?"),
    "resume of no run": (("train", "recipe.yaml", "--resume", "frist"), "there is no such run"),
}


@pytest.mark.parametrize("case", FAILED)
@pytest.mark.parametrize("as_json", [False, True])
def test_failed_input_is_1(case: str, as_json: bool, trained: TrainedRun) -> None:
    argv, message = FAILED[case]
    assert_refused(trained.project.call(*argv, *(["--json"] if as_json else [])), message)


def test_a_run_of_another_recipe_is_refused_with_what_differs(trained: TrainedRun) -> None:
    ended = trained.project.call(
        "train", "recipe.yaml", "--set", "lora.r=8", "--set", "seed=1", "--resume", "first"
    )
    assert_refused(
        ended, "lora.r: differs from the run's recipe (found: 8). Allowed: 4", "seed: ", "2 problems in all"
    )


# Decoupled decay multiplies every weight by 1 - 10 · 10 a step, so that they overflow.
WILD = "{training: {learning_rate: 10, weight_decay: 10, lr_scheduler_type: constant, max_grad_norm: 0}}"


def with_experiments(project: Project, experiments: str) -> None:
    text = (project.folder / "recipe.yaml").read_text(encoding="utf-8")
    begin, end = text.index("experiments:"), text.index("generation:")
    project.write_recipe("wild.yaml", f"{text[:begin]}experiments: {experiments}\n{text[end:]}")


def test_some_experiments_failed_is_3_and_the_rest_are_good(project: Project) -> None:
    with_experiments(project, f"{{good: {{}}, wild: {WILD}}}")
    ended = project.call("train", "wild.yaml", "--out", "run")
    assert ended.code == 3, ended.stderr
    table = {line.split()[0]: line.split()[1:] for line in ended.stdout.splitlines()[1:]}
    assert table["good"][0] == "done"
    assert table["wild"][0] == "failed"
    assert "wild failed: " in ended.stderr
    assert not (project.folder / "run/adapters/wild").exists()
    compared = project.call("compare", "run", "--json")
    assert list(json.loads(compared.stdout)["models"]) == ["base", "good"]
    assert "wild failed after step " in project.call("compare", "run").stderr
    assert_refused(project.call("compare", "run", "--experiment", "wild"), "wild failed after step ")
    assert project.call("train", "wild.yaml", "--resume", "run").code == 3
    assert json.loads(project.call("runs", ".", "--json").stdout)["runs"][0]["status"] == "some failed"


def test_all_experiments_failed_is_1(project: Project) -> None:
    with_experiments(project, f"{{wild: {WILD}}}")
    for option in ("--out", "--resume"):
        ended = project.call("train", "wild.yaml", option, "run")
        assert ended.code == 1
        assert "TrainingError: run: wild: " in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["check", "compare"])
def test_a_signal_ends_a_verb_that_has_nothing_to_save(
    verb: str, number: signal.Signals, project: Project, trained: TrainedRun
) -> None:
    folder = trained.project.folder
    reached = project.folder / "reached"
    faults = {
        "call": "loraloom.session.material:load_base",
        "number": 1,
        "reached": str(reached),
        "go": str(project.folder / "go"),
    }
    target = "recipe.yaml" if verb == "check" else "first"
    started = project.warm.start(verb, target, cwd=folder, faults=faults)
    started.until(reached.exists)
    os.kill(started.pid, number)
    ended = started.wait()
    # A shell shows a process that SIGTERM ended as 143.
    assert ended.code in (128 + number, -number)
    assert (ended.code == 130) == (number == signal.SIGINT)
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_run_is_resumed_by_its_own_recipe(trained: TrainedRun) -> None:
    ended = trained.project.call("train", "--resume", trained.run)
    assert ended.code == 0, ended.stderr
    assert "it is finished and intact" in ended.stderr
    assert trained.project.call("train", "--resume", trained.run, "--set", "seed=7").code == 2
    assert trained.project.call("train").code == 2
