"""What a program may import, and that it works as the commands do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import loraloom
from tests.faults.warm import REPOSITORY
from tests.flows.conftest import RECIPE, rows, write_json

PUBLIC = ["LoRALoomError", "Recipe", "check", "compare", "predict", "read_recipe", "train"]


def test_the_public_names_are_these() -> None:
    """A change here is a change for every user: it belongs in the CHANGELOG."""
    assert sorted(loraloom.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(loraloom))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(loraloom, name).__doc__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        loraloom.tarin  # noqa: B018


def test_the_import_alone_is_light() -> None:
    program = (
        "import sys, loraloom; loraloom.Recipe; loraloom.read_recipe; loraloom.LoRALoomError;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0


def test_a_program_trains_compares_and_predicts(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    write_json(tmp_path / "data.json", rows())
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(model=tiny("mt5")), encoding="utf-8")
    recipe = loraloom.read_recipe(tmp_path / "recipe.yaml", ["training.max_steps=2"])
    assert isinstance(recipe, loraloom.Recipe)
    findings = loraloom.check(recipe.in_folder(tmp_path))
    assert {finding.level for finding in findings} <= {"ok", "note", "warning"}
    heard: list[str] = []
    outcome = loraloom.train(
        recipe.in_folder(tmp_path), out=tmp_path / "run", report=lambda event: heard.append(event.kind)
    )
    assert outcome.failed == []
    assert {"train", "eval", "save", "end"} <= set(heard)
    compared = loraloom.compare(outcome.run.folder, prompts=["学校压力很大"])
    (answered,) = compared.rows
    (tmp_path / "asked.txt").write_text("学校压力很大\n", encoding="utf-8")
    (predicted,) = loraloom.predict(outcome.run.folder, tmp_path / "asked.txt", experiment="narrow")
    assert predicted["answer"] == answered.answers["narrow"]


def test_what_is_wrong_is_one_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(loraloom.LoRALoomError) as caught:
        loraloom.read_recipe(tmp_path / "none.yaml")
    assert caught.value.problems[0].what == "there is no such file"
