"""Every verb as a function: what a program, a notebook or a server may call."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loraloom
from loraloom.cli.app import app
from loraloom.results import TrainResult
from loraloom.run.events import Event
from tests.faults.warm import REPOSITORY
from tests.flows.conftest import RECIPE, rows, write_json

PUBLIC = [
    "Event",
    "Interrupted",
    "LoRALoomError",
    "Recipe",
    "StopRequest",
    "card",
    "check",
    "check_script",
    "compare",
    "demo",
    "find_learning_rate",
    "init",
    "merge",
    "predict",
    "push",
    "read_recipe",
    "recipe_schema",
    "run_search",
    "runs",
    "stop_on_signals",
    "train",
    "write_export",
    "write_report",
]
# What a verb is called as a function, if its command's name is that of a part of the package.
NAMES = {
    "find_lr": "find_learning_rate",
    "recipe_schema": "recipe_schema",
    "export": "write_export",
    "report": "write_report",
    "search": "run_search",
}


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
        "import sys, loraloom; loraloom.Recipe; loraloom.read_recipe; loraloom.train; loraloom.StopRequest;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0


@pytest.fixture(scope="module")
def recipe(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> loraloom.Recipe:
    """A recipe in a folder with its data."""
    folder = tmp_path_factory.mktemp("api")
    write_json(folder / "data.json", rows())
    (folder / "recipe.yaml").write_text(RECIPE.format(model=tiny("mt5")), encoding="utf-8")
    return loraloom.read_recipe(folder / "recipe.yaml", ["training.max_steps=2"])


@pytest.fixture(scope="module")
def trained(recipe: loraloom.Recipe, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return loraloom.train(recipe, out=tmp_path_factory.mktemp("trained") / "run")


def test_every_verb_of_the_command_line_is_a_function() -> None:
    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback}
    servers = {"serve", "ui"}  # a program has no use for a server in its own process
    assert servers < verbs
    assert {NAMES.get(verb, verb) for verb in verbs - servers} <= set(loraloom.__all__)


def test_a_program_trains_compares_and_predicts(recipe: loraloom.Recipe, tmp_path: Path) -> None:
    checked = loraloom.check(recipe)
    assert checked.errors == ()
    assert len(checked.batch) == 3
    heard: list[str] = []
    result = loraloom.train(recipe, out=tmp_path / "run", report=lambda event: heard.append(event.kind))
    assert result.failed == ()
    assert [own.status for own in result.experiments.values()] == ["done", "done"]
    assert (tmp_path / "run" / "adapters" / "wide").samefile(result.experiments["wide"].adapter or "")
    assert {"train", "eval", "save", "end"} <= set(heard)
    compared = loraloom.compare(result.run, prompts=["学校压力很大"])
    (answered,) = compared.rows
    assert compared.models["narrow"].movement
    (tmp_path / "asked.txt").write_text("学校压力很大\n", encoding="utf-8")
    (predicted,) = loraloom.predict(result.run, tmp_path / "asked.txt", experiment="narrow")
    assert predicted.answer == answered.answers["narrow"]


@pytest.mark.usefixtures("proof_here")
def test_results_are_typed_and_cannot_be_changed(trained: TrainResult, tmp_path: Path) -> None:
    compared = loraloom.compare(trained.run, split="eval")
    assert compared.file == trained.run / "compare" / "eval.json"
    assert {(each.model, each.against) for each in compared.differences} == {
        ("wide", "base"),
        ("narrow", "base"),
    }
    assert {(each.model, each.against) for each in compared.pairs} == {("wide", "narrow")}
    merged = loraloom.merge(trained.run, tmp_path / "merged", experiment="wide", dtype="float32")
    assert merged.num_bytes == sum(file.stat().st_size for file in merged.folder.iterdir())
    card = loraloom.card(trained.run, experiment="wide", out=tmp_path / "card.md")
    assert card.file is not None
    assert card.file.read_text(encoding="utf-8") == card.text
    assert loraloom.write_report(trained.run, "md", out=tmp_path / "report.md").is_file()
    (listed,) = loraloom.runs(trained.run.parent)
    assert (listed.run, listed.status, listed.experiments) == (trained.run, "done", ("wide", "narrow"))
    for value in (trained, compared, merged, card, listed):
        with pytest.raises(dataclasses.FrozenInstanceError):
            value.run = Path()  # type: ignore[union-attr]


def test_the_data_alone_is_checked_as_on_the_command_line(
    recipe: loraloom.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*words: object) -> None:
        raise AssertionError("the base is loaded")

    monkeypatch.setattr("loraloom.session.material.load_recipe_base", load)
    found = loraloom.check(recipe, data_only=True)
    names = {finding.check for finding in found.findings}
    assert {"leakage", "duplicates", "alike"} <= names
    assert "gradients" not in names
    assert found.batch == ()
    with pytest.raises(TypeError, match="cannot be combined with data_only"):
        loraloom.check(recipe, data_only=True, deep=True)


def test_a_search_and_a_range_test_from_a_program(recipe: loraloom.Recipe, tmp_path: Path) -> None:
    alone = recipe.revised({"experiments": {}})
    space = {"training.learning_rate": [1e-5, 0.01]}
    found = loraloom.run_search(alone, space, trials=2, sampler="grid", out=tmp_path / "found")
    assert found.best.parameters == {"training.learning_rate": 0.01}
    assert [trial.status for trial in found.trials] == ["done", "done"]
    assert (
        loraloom.run_search(alone, space, trials=2, sampler="grid", resume=tmp_path / "found").best
        == found.best
    )
    assert loraloom.find_learning_rate(alone, out=tmp_path / "rates").num_eval_rows == 4


def test_a_recipe_may_be_named_and_is_written_by_init(tmp_path: Path) -> None:
    text = loraloom.init(write_json(tmp_path / "data.json", rows()))
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    assert "model_name_or_path: starter" in text
    assert loraloom.read_recipe(tmp_path / "recipe.yaml").data.train == str(tmp_path / "data.json")
    assert "model_name_or_path" in loraloom.recipe_schema()["properties"]
    with pytest.raises(loraloom.LoRALoomError, match="there is no such file"):
        loraloom.check(tmp_path / "none.yaml")


def test_another_thread_stops_a_training_and_it_is_resumed(
    recipe: loraloom.Recipe, trained: TrainResult, tmp_path: Path
) -> None:
    """As a server does it: no signal, the work in a thread of its own, and nothing is lost."""
    long = recipe.revised({"training": recipe.training.model_dump() | {"max_steps": 6}})
    stop, ended = loraloom.StopRequest(), []

    def tell(event: Event) -> None:
        if event.kind == "train":
            threading.Thread(target=stop.stop).start()

    def work() -> None:
        try:
            loraloom.train(long, out=tmp_path / "run", report=tell, stop=stop)
        except loraloom.Interrupted as error:
            ended.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert [error.signal_number for error in ended] == [0]
    assert not (tmp_path / "run" / "result.json").exists()
    result = loraloom.train(resume=tmp_path / "run")
    whole = loraloom.train(long, out=tmp_path / "whole")
    for name, own in result.experiments.items():
        other = whole.experiments[name].adapter
        assert own.adapter is not None
        assert other is not None
        tensors = "adapter_model.safetensors"
        assert (own.adapter / tensors).read_bytes() == (other / tensors).read_bytes()


def test_a_token_that_is_set_stops_every_long_verb(
    recipe: loraloom.Recipe, trained: TrainResult, tmp_path: Path
) -> None:
    stop = loraloom.StopRequest()
    stop.stop()
    asked = tmp_path / "asked.txt"
    asked.write_text("one\n", encoding="utf-8")
    alone = recipe.revised({"experiments": {}})
    for verb in (
        lambda: loraloom.check(recipe, stop=stop),
        lambda: loraloom.train(recipe, out=tmp_path / "run", stop=stop),
        lambda: loraloom.run_search(alone, {"lora.r": [2, 4]}, trials=2, out=tmp_path / "found", stop=stop),
        lambda: loraloom.find_learning_rate(alone, out=tmp_path / "rates", stop=stop),
        lambda: list(loraloom.predict(trained.run, asked, experiment="wide", stop=stop)),
        lambda: loraloom.merge(trained.run, tmp_path / "merged", experiment="wide", stop=stop),
    ):
        with pytest.raises(loraloom.Interrupted):
            verb()
    assert not (tmp_path / "merged").exists()


def test_signals_are_left_to_the_program_unless_it_asks(recipe: loraloom.Recipe, tmp_path: Path) -> None:
    seen: list[Any] = []

    def tell(event: Event) -> None:
        seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    loraloom.train(recipe, out=tmp_path / "run", report=tell)
    assert set(seen) == {before}
    with loraloom.stop_on_signals() as stop:
        assert signal.getsignal(signal.SIGINT) is not before
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(loraloom.Interrupted) as caught:
            loraloom.train(recipe, out=tmp_path / "stopped", stop=stop)
    assert caught.value.signal_number == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_wrong_is_one_kind_of_error(tmp_path: Path) -> None:
    with pytest.raises(loraloom.LoRALoomError) as caught:
        loraloom.read_recipe(tmp_path / "none.yaml")
    assert caught.value.problems[0].what == "there is no such file"
