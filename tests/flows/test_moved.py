"""A run whose project, base or data was moved: what is said, and what `--base` and `--data` do."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.compare import compare
from loraloom.commands.merge import merge
from loraloom.commands.predict import predict
from loraloom.commands.train import train
from loraloom.errors import DataError, LoRALoomError, ModelError, RunError
from loraloom.recipe.reading import read_recipe
from loraloom.run.events import Report, Resume
from loraloom.run.folder import Run
from tests.events import message_of
from tests.faults.warm import Warm
from tests.flows.conftest import RECIPE, rows, write_json

SETS = ["training.max_steps=4", "training.save_strategy=steps", "training.save_steps=2", "experiments="]


@pytest.fixture(scope="module")
def made(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a base, data in a folder, a recipe and a finished run of it."""
    folder = tmp_path_factory.mktemp("made") / "project"
    shutil.copytree(tiny("mt5"), folder / "base")
    (folder / "data").mkdir()
    write_json(folder / "data" / "data.json", rows())
    text = RECIPE.format(model="base").replace("train: data.json", "train: data/data.json")
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    train(read_recipe(folder / "recipe.yaml", SETS), out=folder / "run")
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it at another place; what it was made at is as good as gone."""
    folder = Path(shutil.copytree(made, tmp_path / "moved"))
    monkeypatch.chdir(tmp_path)
    provenance = folder / "run" / "provenance.json"
    gone = provenance.read_text(encoding="utf-8").replace(str(made), str(made.with_name("gone")))
    provenance.write_text(gone, encoding="utf-8")
    (folder / "run" / ".sums.json").unlink()
    return folder


def told_of(told: list[str]) -> Report:
    return lambda event: told.append(event.reason if isinstance(event, Resume) else message_of(event))


def interrupt(run: Path) -> None:
    """As if it had been stopped after its first checkpoint."""
    (run / "result.json").unlink()
    shutil.rmtree(run / "adapters" / "main")
    shutil.rmtree(run / "checkpoints" / "step-000004")


def resume(run: Path, base: Path, data: Path) -> None:
    interrupt(run)
    train(read_recipe(run / "recipe.yaml"), resume=run, base=base, data=data)


def same_adapter(run: Path, other: Path) -> bool:
    name = Path("adapters", "main", "adapter_model.safetensors")
    return (run / name).read_bytes() == (other / name).read_bytes()


def test_without_an_override_all_say_where_was_looked(project: Path, made: Path) -> None:
    run, gone = project / "run", made.with_name("gone")
    asked = write_json(project / "asked.json", [{"instruction": "学校压力很大"}])
    with pytest.raises(DataError) as of_data:
        compare(run)
    assert "data/data.json: no such file" in str(of_data.value)
    assert f"searched in {gone}" in str(of_data.value)
    assert "with --data PATH" in str(of_data.value)
    fingerprint = json.loads((run / "provenance.json").read_bytes())["base"]["fingerprint"][:12]
    for ask in (
        lambda: compare(run, prompts=["甲"]),
        lambda: list(predict(run, asked)),
        lambda: merge(run, project / "merged"),
    ):
        with pytest.raises(ModelError) as of_base:
            ask()
        assert f"the base `base` ({fingerprint})" in str(of_base.value)
        assert f"looked for at {gone / 'base'}" in str(of_base.value)
        assert "with --base PATH" in str(of_base.value)


def test_the_working_directory_plays_no_part(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)  # where a `base` is, and it is even the right one
    with pytest.raises(ModelError, match="the one in the working directory is not used instead"):
        compare(Path("run"), prompts=["甲"])
    with pytest.raises(DataError, match=r"data/data\.json: no such file"):
        compare(Path("run"))


def test_a_moved_project_is_named_by_its_new_folder(project: Path, made: Path) -> None:
    """`--data` takes the place of the recorded folder, and so the base in it is found too."""
    told: list[str] = []
    figures = compare(project / "run", data=project, report=told_of(told)).models
    expected = compare(made / "run").models
    assert figures == expected
    assert any(f"the run's data is read from {project}" in message for message in told)
    assert str(project) not in (project / "run" / "compare" / "test.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("proof_here")
def test_a_renamed_base_and_data_of_another_name(project: Path, made: Path) -> None:
    (project / "base").rename(project / "renamed")
    (project / "data" / "data.json").rename(project / "kept.json")
    run, base, data = project / "run", Path("moved/renamed"), Path("moved/kept.json")
    asked = write_json(project / "asked.json", [{"instruction": "学校压力很大"}])
    assert compare(run, base=base, data=data).models == compare(made / "run").models
    assert list(predict(run, asked, base=base)) == list(predict(made / "run", asked))
    (answer,) = predict(run, asked, base=base, experiment="base")
    assert answer["answer"] == next(predict(made / "run", asked, experiment="base"))["answer"]
    merged = merge(run, project / "merged", base=base, data=data)
    assert merged["proof"]["rows"].endswith("rows of the run")
    card = (project / "merged" / "README.md").read_text(encoding="utf-8")
    assert str(project) not in card
    assert "renamed" not in card


def test_an_interrupted_run_goes_on_to_the_same_adapter(project: Path, made: Path) -> None:
    run = project / "run"
    interrupt(run)
    before = (run / "provenance.json").read_bytes()
    (project / "base").rename(project / "renamed")
    (project / "data").rename(project / "other")
    with pytest.raises(DataError, match="searched in"):
        train(read_recipe(run / "recipe.yaml"), resume=run)
    told: list[str] = []
    train(
        read_recipe(run / "recipe.yaml"),
        resume=run,
        base=project / "renamed",
        data=project / "other",
        report=told_of(told),
    )
    assert same_adapter(run, made / "run")
    after = json.loads((run / "provenance.json").read_bytes())
    assert after.pop("sessions")  # the resumes are written down, and nothing else has changed
    assert after == json.loads(before)
    assert json.loads((run / "adapters" / "main" / "loraloom.json").read_bytes())["base"] == "base"
    assert any("the base is read from" in message for message in told)


def test_a_recipe_that_moved_with_its_data_needs_no_override(project: Path, made: Path) -> None:
    interrupt(project / "run")
    told: list[str] = []
    recipe = read_recipe(project / "recipe.yaml", SETS)
    train(recipe, resume=project / "run", report=told_of(told))
    assert same_adapter(project / "run", made / "run")
    assert any(f"the recipe's paths are relative to {project}; the run started in" in m for m in told)


def test_another_base_and_changed_data_are_refused_and_both_are_named(
    project: Path, tiny: Callable[[str], Path]
) -> None:
    run, other = project / "run", tiny("t5")
    asked = write_json(project / "asked.json", [{"instruction": "学校压力很大"}])
    own = json.loads((run / "provenance.json").read_bytes())["base"]["fingerprint"][:12]
    for ask in (
        lambda: compare(run, prompts=["甲"], base=other),
        lambda: list(predict(run, asked, base=other)),
        lambda: list(predict(run, asked, base=other, experiment="base")),
        lambda: merge(run, project / "merged", base=other, data=project),
        lambda: resume(run, other, project),
    ):
        with pytest.raises(RunError, match="was trained on another") as refused:
            ask()
        assert str(other) in str(refused.value)
        assert own in str(refused.value)
    assert not (project / "merged").exists()
    changed = write_json(project / "changed.json", rows(23))
    with pytest.raises(DataError, match=r"data/data\.json: has changed since it was split") as refused_data:
        compare(run, data=changed)
    assert str(changed) in str(refused_data.value)
    with pytest.raises(DataError, match="does not exist"):
        compare(run, data=project / "nowhere")
    with pytest.raises(ModelError, match="there is no such folder"):
        compare(run, base=project / "nowhere")


@pytest.mark.usefixtures("proof_here")
def test_with_its_data_gone_prompts_are_answered_and_a_merge_says_so(project: Path) -> None:
    shutil.rmtree(project / "data")
    run, base = project / "run", project / "base"
    assert compare(run, prompts=["甲"], base=base).num_rows == 1
    notes = merge(run, project / "merged", base=base)["notes"]
    assert any("the run's rows are not available, so the proof uses random tokens" in note for note in notes)


def test_rows_to_measure_forgetting_on_are_moved_and_verified_too(project: Path, tmp_path: Path) -> None:
    write_json(project / "retain.json", rows(3))
    sets = [*SETS, "data.retain=retain.json"]
    run = train(read_recipe(project / "recipe.yaml", sets), out=tmp_path / "run").run.folder
    expected = compare(run).models["main"].figures["retain_loss"]
    (project / "retain.json").rename(project / "data" / "retain.json")
    with pytest.raises(DataError, match=r"retain\.json: no such file"):
        compare(run)
    told: list[str] = []
    compare(run, prompts=["甲"], report=told_of(told))
    assert any("forgetting is not measured" in message for message in told)
    now = compare(run, data=project / "data").models["main"].figures["retain_loss"]
    assert now == expected
    write_json(project / "data" / "retain.json", rows(4))
    with pytest.raises(RunError, match=r"data\.retain has changed"):
        compare(run, data=project / "data")


def test_the_command_line_takes_both(project: Path, warm: Warm, tmp_path: Path) -> None:
    (project / "base").rename(project / "renamed")
    moved = ("--base", "moved/renamed", "--data", "moved/data")
    ended = warm.call("train", "--resume", "moved/run", *moved, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "the base is read from" in ended.stderr
    ended = warm.call("compare", "moved/run", *moved, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    refused = warm.call("train", "moved/recipe.yaml", *moved, cwd=tmp_path)
    assert refused.code == 2
    assert not (tmp_path / "runs").exists()


def test_what_is_not_there_leaves_nothing_half_written(project: Path) -> None:
    before = {file.name for file in (project / "run").iterdir()}
    with pytest.raises(LoRALoomError):
        merge(project / "run", project / "merged")
    assert {file.name for file in (project / "run").iterdir()} == before
    assert not list(project.glob(".merged*"))
    assert Run(project / "run").is_finished
