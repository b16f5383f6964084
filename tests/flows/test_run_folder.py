"""The run directory: where it may be, who may read it, what it holds and what it must not hold."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from tests.faults.warm import Ended
from tests.flows.conftest import CANARY, QUESTIONS, Project, TrainedRun, assert_refused, write_json


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_what_a_run_holds(trained: TrainedRun) -> None:
    run = trained.run
    files = {file.name for file in run.iterdir() if not file.name.startswith(".")}
    assert files >= {
        "recipe.yaml",
        "provenance.json",
        "split.json",
        "checks.json",
        "events.jsonl",
        "result.json",
        "checkpoints",
        "adapters",
    }
    assert not [
        file for file in run.rglob("*") if file.suffix in (".new", ".old", ".pt", ".bin", ".pkl", ".pickle")
    ]
    for file in run.rglob("*.json"):
        json.loads(file.read_text(encoding="utf-8"))
    for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        assert {"event", "time"} <= set(json.loads(line))


def test_only_its_user_can_read_a_run(trained: TrainedRun) -> None:
    assert stat.S_IMODE(trained.run.stat().st_mode) == 0o700


def test_no_text_of_a_row_is_in_a_run_outside_its_comparisons(project: Project) -> None:
    for argv in (
        ("train", "recipe.yaml", "--out", "run"),
        ("train", "recipe.yaml", "--resume", "run"),
        ("compare", "run"),
    ):
        assert project.call(*argv).code == 0
    known = [CANARY.encode(), *(question.encode() for question in QUESTIONS)]
    for name, content in contents(project.folder / "run").items():
        has_text = any(text in content for text in known)
        assert has_text == name.startswith("compare/"), name


def test_no_text_of_a_row_is_in_a_message(project: Project) -> None:
    bad = [
        {"instruction": f"{CANARY} 1", "response": ""},
        {"instruction": f"{CANARY} 2", "response": 7},
        {"instruction": f"{CANARY} 3"},
        {"instruction": [CANARY], "response": "x"},
        {"instruction": f"{CANARY}\x07", "response": "x"},
    ]
    write_json(project.folder / "bad.json", bad)
    for verb in ("check", "train"):
        ended = project.call(verb, "recipe.yaml", "--set", "data.train=bad.json")
        assert_refused(ended, "bad.json:")
        assert CANARY not in ended.stderr


def test_no_path_of_this_machine_is_in_an_adapter(trained: TrainedRun) -> None:
    for name, content in contents(trained.run / "adapters").items():
        assert str(trained.project.model.parent).encode() not in content, name
        assert str(trained.project.folder).encode() not in content, name


def test_the_folder_of_a_run_can_be_moved(trained: TrainedRun, own_run: Path, tmp_path: Path) -> None:
    moved = own_run.rename(tmp_path / "elsewhere")
    ended = trained.project.call("predict", moved, "data.json", "--experiment", "wide")
    assert ended.code == 0, ended.stderr
    plain = trained.project.call("predict", "first", "data.json", "--experiment", "wide")
    assert ended.stdout == plain.stdout


def test_a_run_is_resumed_from_another_working_directory(
    trained: TrainedRun, own_run: Path, tmp_path: Path
) -> None:
    recipe = trained.project.folder / "recipe.yaml"
    ended = trained.project.warm.call("train", recipe, "--resume", own_run, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "it is finished and intact" in ended.stderr


def test_a_second_run_in_the_same_place_is_refused(trained: TrainedRun) -> None:
    before = contents(trained.run)
    ended = trained.project.call("train", "recipe.yaml", "--out", "first")
    assert_refused(ended, "RunError: first: the run directory must be new or empty", "--resume")
    after = contents(trained.run)
    after.pop(".lock"), before.pop(".lock")
    assert {name: after[name] for name in before} == before


def test_runs_of_one_day_are_numbered(project: Project) -> None:
    for _ in range(2):
        assert project.call("train", "recipe.yaml", "--set", "training.max_steps=1").code == 0
    first, second = sorted(path.name for path in (project.folder / "runs").iterdir())
    assert (first[-2:], second[-2:]) == ("-1", "-2")
    assert first[:-2] == second[:-2]


def test_an_empty_folder_becomes_the_run(project: Project) -> None:
    (project.folder / "empty").mkdir(mode=0o755)
    ended = project.call("train", "recipe.yaml", "--out", "empty", "--set", "training.max_steps=1")
    assert ended.code == 0, ended.stderr
    assert stat.S_IMODE((project.folder / "empty").stat().st_mode) == 0o700


def refuse_out(project: Project, out: str | Path, *said: str) -> None:
    """Refused before anything is trained, and everything is as it was."""
    before = contents(project.folder)
    assert_refused(project.call("train", "recipe.yaml", "--out", out), *said)
    assert contents(project.folder) == before


def test_a_file_is_no_place_for_a_run(project: Project) -> None:
    refuse_out(project, "data.json", "data.json: the run directory must be new or empty", "another `--out`")
    refuse_out(
        project, "data.json/run", "data.json/run: the run directory cannot be created: Not a directory"
    )


@pytest.mark.parametrize(
    "held", ["notes.txt", "recipe.yaml", "provenance.json", "checkpoints/mine", ".hidden"]
)
def test_a_folder_that_holds_something_else_is_no_place_for_a_run(held: str, project: Project) -> None:
    file = project.folder / "mine" / held
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    refuse_out(project, "mine", "mine: the run directory must be new or empty")
    assert file.read_text() == "mine"
    refuse_out(project, ".", "the run directory must be new or empty")


def test_a_folder_that_links_to_itself(project: Project) -> None:
    (project.folder / "loop").symlink_to("loop")
    refuse_out(project, "loop/run", "the run directory cannot be created")


def test_a_place_where_nobody_may_write(project: Project) -> None:
    refuse_out(project, "/sys/loraloom", "/sys/loraloom: the run directory cannot be created", "with --out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_where_one_may_not_write(project: Project) -> None:
    (project.folder / "closed").mkdir(mode=0o500)
    refuse_out(project, "closed/run", "cannot be created: Permission denied")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("provenance.json", "{", "provenance.json: cannot be read"),
        ("provenance.json", "{}", "provenance.json: is damaged"),
        ("split.json", "[]", "split.json"),
        ("split.json", "{}", "split.json"),
        ("recipe.yaml", "data: [", "recipe.yaml:"),
        ("recipe.yaml", "", "the recipe is empty"),
    ],
)
def test_a_damaged_run_is_refused_by_every_verb(
    name: str, content: str, said: str, trained: TrainedRun, own_run: Path
) -> None:
    (own_run / name).write_text(content)
    verbs: list[tuple[str | Path, ...]] = [("compare", own_run, "--split", "eval")]
    if name != "split.json":
        verbs.append(("predict", own_run, "data.json", "--experiment", "base"))
    for argv in verbs:
        assert_refused(trained.project.call(*argv), said)
    listed = trained.project.call("runs", own_run.parent, "--json")
    assert listed.code == 0
    status = json.loads(listed.stdout)["runs"][0]["status"]
    assert status == ("damaged" if name == "provenance.json" else "done")
    assert_mended_or_refused(trained.project.call("train", "recipe.yaml", "--resume", own_run), name)


def assert_mended_or_refused(ended: Ended, name: str) -> None:
    """What the recipe and the data give again is written again; the choices of the run are nowhere else."""
    if name == "provenance.json":
        assert_refused(ended, "provenance.json: changed since the run wrote it")
    else:
        assert ended.code == 0, ended.stderr
        assert f"{name} has changed since the run wrote it: it is written again" in ended.stderr


def test_data_that_changed_under_a_run_is_refused(project: Project) -> None:
    assert project.call("train", "recipe.yaml", "--out", "run", "--set", "training.max_steps=1").code == 0
    data = project.folder / "data.json"
    data.write_text(data.read_text(encoding="utf-8").replace("先试着", "再试着"), encoding="utf-8")
    said = ("DataError: data.json: has changed since it was split", "the run needs its data, unchanged")
    assert_refused(
        project.call("train", "recipe.yaml", "--resume", "run", "--set", "training.max_steps=1"), *said
    )
    assert_refused(project.call("compare", "run"), *said)
    assert project.call("predict", "run", "data.json", "--experiment", "base").code == 0


def test_another_base_under_a_run_is_refused(project: Project) -> None:
    copy = Path(shutil.copytree(project.model, project.folder / "model"))
    sets = ("--set", "model_name_or_path=model", "--set", "training.max_steps=1")
    assert project.call("train", "recipe.yaml", "--out", "run", *sets).code == 0
    from tests.tiny import make_folder

    shutil.rmtree(copy)
    make_folder(copy, "mt5", seed=1)
    ended = project.call("train", "recipe.yaml", "--out", "other", *sets)
    assert ended.code == 0, ended.stderr
    (project.folder / "run/result.json").unlink()
    assert_refused(
        project.call("train", "recipe.yaml", "--resume", "run", *sets), "was trained on another base model"
    )
    assert_refused(project.call("compare", "run"), "another base model")
