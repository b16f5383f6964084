"""A run that was really trained and compared: the files are what the report takes them for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.compare import compare
from loraloom.commands.report import write_report
from loraloom.commands.train import train
from loraloom.recipe.reading import read_recipe_with_notes
from loraloom.report.content import read_content
from loraloom.report.csv_and_json import render_csv, render_json
from loraloom.report.markdown import render_markdown
from loraloom.report.page import render_page
from loraloom.run.documents.comparison import Comparison
from loraloom.run.folder import Run
from tests.faults.training import NUM_ROWS, write_training


@pytest.fixture(scope="module")
def compared(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Comparison]:
    """The folder of a run, trained once for all tests here, and what its comparison said."""
    folder = tmp_path_factory.mktemp("real")
    reading = read_recipe_with_notes(str(write_training(folder, tiny("mt5"))), [])
    run = train(reading.recipe, out=folder / "run").run
    return run.folder, compare(run.folder)


def test_a_trained_and_compared_run_has_all_its_parts(
    compared: tuple[Path, Comparison], tiny: Callable[[str], Path]
) -> None:
    folder, comparison = compared
    content = read_content(folder)
    assert content.comparison is not None
    assert content.comparison.took_part_in_a_choice
    assert {verdict.sentence for verdict in content.comparison.verdicts} == set(comparison.sentences)
    assert content.rows == {"train": NUM_ROWS - 4, "eval": 4, "test": 0}
    trained = {each.name: each for each in content.experiments}
    assert {name: len(each.curves.loss) for name, each in trained.items()} == {
        each.name: each.step for each in content.experiments
    }
    assert trained["short"].step == 3
    assert trained["stopped"].status == "stopped"
    assert all(each.adapter and each.adapter.num_weights and each.targets for each in trained.values())
    for text in (render_page(content), render_json(content), render_markdown(content), render_csv(content)):
        assert str(folder.parent) not in text
        assert str(tiny("mt5").parent) not in text


def test_a_recommended_recipe_trains_the_same_adapter_from_any_folder(
    compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(compared[0], tmp_path / "run")))
    file = run.comparisons / "eval.json"
    document = json.loads(file.read_text(encoding="utf-8"))
    document["recommendation"] = {"experiment": "short", "sentence": "Take short."}
    file.write_text(json.dumps(document), encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    path = write_report(run.folder, "recipe", tmp_path / "elsewhere" / "recipe.yaml")
    alone = read_recipe_with_notes(str(path), [])
    again = train(alone.recipe, out=tmp_path / "again").run
    first, second = (
        next(each for each in read_content(folder).experiments if each.name == name)
        for folder, name in ((run.folder, "short"), (again.folder, "main"))
    )
    losses = [[loss for _, loss in each.curves.loss] for each in (first, second)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert second.adapter == first.adapter


def test_forgetting_has_the_loss_before_and_after(compared: tuple[Path, Comparison]) -> None:
    trained = read_content(compared[0]).experiments
    before = {round((each.retain_loss or 0) - (each.forgetting or 0), 4) for each in trained}
    assert len(before) == 1  # the base is the same for all
    assert before.pop() > 0
