"""What a recipe names is looked for in its own folder, whatever folder a program runs in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import loraloom
from loraloom.commands.find_lr import find_learning_rate
from loraloom.commands.search import search
from loraloom.errors import DataError, LoRALoomError
from loraloom.recipe.reading import parse_recipe, read_recipe, read_recipe_with_notes, write_recipe
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from tests.faults.warm import Warm
from tests.flows.conftest import RECIPE, rows, write_json
from tests.tiny import SHALLOW

SHORT = ["training.max_steps=2", "experiments="]


@pytest.fixture
def project(tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe whose base and data lie beside it; the working directory is another, with other data."""
    folder = tmp_path / "project"
    shutil.copytree(tiny(SHALLOW), folder / "base")
    write_json(folder / "data.json", rows())
    (folder / "recipe.yaml").write_text(RECIPE.format(model="base"), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_json(Path("data.json"), rows(9))
    return folder


def test_a_program_trains_from_another_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = read_recipe("../project/recipe.yaml", SHORT)
    assert loraloom.check(recipe).errors == ()
    outcome = loraloom.train(recipe, out=Path("run"))
    kept = read_recipe("run/recipe.yaml")
    assert (kept.model_name_or_path, kept.data.train) == ("base", "data.json")  # as they were written
    assert str(project) not in (Path("run") / "split.json").read_text(encoding="utf-8")
    assert len(json.loads((outcome.run / "split.json").read_bytes())["train"]) == 16

    run = outcome.run.resolve()
    monkeypatch.chdir(project.parent)
    assert loraloom.train(read_recipe(run / "recipe.yaml"), resume=run).failed == ()
    text = write_recipe(recipe)
    assert loraloom.train(parse_recipe(text, name="text"), resume=run).failed == ()
    assert len(loraloom.compare(run, split="eval").rows) == 4
    (answered,) = loraloom.predict(run, _asked(project), experiment="main")
    assert answered.row == 1


def _asked(folder: Path) -> Path:
    (folder / "asked.txt").write_text("学校压力很大\n", encoding="utf-8")
    return folder / "asked.txt"


def test_a_range_test_and_a_search_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loraloom.commands.find_lr.NUM_STEPS", 6)  # what they find does not matter here
    recipe = read_recipe(project / "recipe.yaml", SHORT)
    assert find_learning_rate(recipe, out=Path("rates")).num_eval_rows == 4
    space = parse_space("training.learning_rate: [0.01, 0.001]", name="space.yaml", recipe=recipe)
    request = make_request(recipe, space, num_trials=2, sampler="grid")
    assert len(search(request, out=Path("found")).ledger.trials) == 2
    assert len(search(request, resume=Path("found")).ledger.trials) == 2


def test_an_adapter_to_go_on_from_lies_beside_the_recipe(project: Path) -> None:
    first = loraloom.train(read_recipe(project / "recipe.yaml", SHORT), out=project / "first")
    assert first.experiments["main"].adapter is not None
    shutil.copytree(first.experiments["main"].adapter, project / "before")
    more = ["experiments.again.lora.init_adapter=before", "training.max_steps=2"]
    assert loraloom.train(read_recipe(project / "recipe.yaml", ["experiments=", *more])).failed == ()


def test_what_a_program_says_comes_first(project: Path) -> None:
    recipe = read_recipe(project / "recipe.yaml", SHORT)
    assert read_recipe(project / "recipe.yaml").folder == project
    with pytest.raises(LoRALoomError):  # the base is not there
        loraloom.train(recipe.in_folder(Path()))
    assert not any(Path("runs").iterdir())


def test_a_copy_with_other_settings_stays_in_its_folder(project: Path) -> None:
    recipe = read_recipe(project / "recipe.yaml")
    assert recipe.model_copy(update={"seed": 1}).folder == project
    assert recipe == parse_recipe(write_recipe(recipe), name="text")


def test_text_and_a_shipped_recipe_start_from_the_working_directory(project: Path) -> None:
    text = (project / "recipe.yaml").read_text(encoding="utf-8")
    assert parse_recipe(text, name="text").folder == Path()
    assert read_recipe("article", ["data.train=data.json"]).folder == Path()
    with pytest.raises(DataError, match=r"data\.jsn"):
        loraloom.check(parse_recipe(text.replace("data.json", "data.jsn"), name="text"))


def test_the_recipe_of_a_run_starts_from_where_the_run_was_begun(project: Path) -> None:
    run = loraloom.train(read_recipe(project / "recipe.yaml", SHORT), out=Path("run")).run
    assert read_recipe_with_notes(run / "recipe.yaml").recipe.folder == project
    again = loraloom.train(read_recipe(run / "recipe.yaml"), out=Path("again")).run
    assert (again / "split.json").read_bytes() == (run / "split.json").read_bytes()
    shutil.copy(run / "recipe.yaml", "copied.yaml")
    assert read_recipe("copied.yaml").folder == Path.cwd()


def test_a_run_of_a_shipped_recipe_goes_on_from_where_it_was_begun(
    project: Path, warm: Warm, tmp_path: Path
) -> None:
    sets = ["--set", "data.train=data.json", "--set", "data.eval=4", "--set", "training.max_steps=2"]
    sets += [
        "--set",
        "model_name_or_path=base",
        "--set",
        "experiments=",
        "--set",
        "generation.max_new_tokens=8",
    ]
    sets += ["--set", "data.test=0", "--set", "lora.r=2"]
    ended = warm.call("train", "article", *sets, "--out", "run", cwd=project)
    assert ended.code == 0, ended.stderr
    ended = warm.call("train", "article", *sets, "--resume", "project/run", cwd=tmp_path)
    assert "finished and intact" in ended.stderr, ended.stderr
