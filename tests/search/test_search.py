"""A search end to end: who is trained with what, who is dropped, and what lies in the run afterwards."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from typer.testing import CliRunner

from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import Base
from loraloom.cli import app
from loraloom.commands.compare import compare
from loraloom.commands.runs import describe_runs
from loraloom.commands.train import train
from loraloom.data.batches import Batch
from loraloom.errors import CheckError, RecipeError, RunError, TargetError, TrainingError
from loraloom.forecast.plan import Need
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Event, ExperimentEnd, Note, TrainStep, quiet
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files
from loraloom.search.ledger import Ledger
from loraloom.search.space import nested_changes, with_experiments
from loraloom.search.study import Study
from loraloom.search.trial_table import table
from loraloom.training import passes
from tests.search.small import fruits, request_of, run_search, study_of, write_recipe_file

SearchView = Callable[..., Path]
# What trials need in these tests; so much that whole micro-batches fit, and none is computed row by row.
GIB = 2**30


def parameters(run: Path) -> list[dict[str, Any]]:
    return [trial["parameters"] for trial in Run(run).read_json(run / "search.json")["trials"]]


def losses(run: Path, kind: str, name: str) -> list[float]:
    key = {"train": "loss", "eval": "eval_loss"}[kind]
    lines = (event.to_json() for event in Run(run).events() if event.kind == kind)
    return [line[key] for line in lines if line["experiment"] == name]


def test_the_same_seed_draws_the_same_trials(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    again = run_search(recipe, tmp_path / "run")
    assert fruits(again.run.folder) == fruits(searched())
    assert len({json.dumps(own) for own in parameters(searched())}) == 6


def test_another_seed_draws_others(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    other = write_recipe_file(tmp_path, Path(read_recipe(recipe).model_name_or_path), seed=7)
    ours = request_of(other, num_trials=1)
    study = Study(tmp_path / "study.db", ours, higher_is_better=False, report=quiet)
    assert study.draw() != parameters(searched())[0]


def test_every_trial_equals_its_configuration_trained_alone(
    searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    for number, own in enumerate(parameters(searched())[:3]):
        alone = with_experiments(read_recipe(recipe), {"alone": nested_changes(own)})
        run = train(alone.in_folder(recipe.parent), out=tmp_path / str(number)).run.folder
        for kind in ("train", "eval"):
            together = losses(searched(), kind, f"trial-{number:04d}")
            assert together == pytest.approx(losses(run, kind, "alone"), rel=1e-4)


def test_a_trial_is_optunas_and_the_ledgers_and_the_runs(searched: SearchView) -> None:
    run = searched()
    document = Run(run).read_json(run / "search.json")
    study = study_of(run)
    assert study.best_trial.number == int(document["best"].removeprefix("trial-"))
    for trial, frozen in zip(document["trials"], study.trials, strict=True):
        assert frozen.value == trial["figure"]
        assert frozen.params["lora.target_modules"] == json.dumps(trial["parameters"]["lora.target_modules"])
    own = read_recipe(run / "recipe.yaml")
    assert list(own.experiments) == [trial["name"] for trial in document["trials"]]
    assert {e.name: e.lora.r for e in own.resolved_experiments} == {
        trial["name"]: trial["parameters"]["lora.r"] for trial in document["trials"]
    }


def test_the_best_is_a_recipe_of_its_own(searched: SearchView, recipe: Path) -> None:
    run = searched()
    document = Run(run).read_json(run / "search.json")
    best = next(trial for trial in document["trials"] if trial["name"] == document["best"])
    assert best["figure"] == min(trial["figure"] for trial in document["trials"])
    pasted, asked = read_recipe(run / "best.yaml"), read_recipe(recipe)
    changed = with_experiments(asked, {"main": nested_changes(best["parameters"])}).resolved_experiments
    assert pasted.resolved_experiments == changed
    assert pasted.data == asked.data


def test_other_verbs_read_the_run(searched: SearchView) -> None:
    run = searched()
    best = fruits(run).best
    assert set(compare(run, experiments=[best]).models) == {"base", best}
    (described,) = [entry for entry in describe_runs(run.parent) if entry["run"] == str(run)]
    assert described["status"] == "done"
    assert "trial-0005" in described["experiments"]


def test_a_finished_search_is_left_as_it_is(searched: SearchView, recipe: Path) -> None:
    run = searched()
    before = {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.name != ".lock"}
    assert run_search(recipe, run, resume=True).best.name == fruits(run).best
    assert {file: file.stat().st_mtime_ns for file in run.rglob("*") if file.name != ".lock"} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "lr: [1.0e-3]\nr: [2, 4]"}, "space.yaml: lora.r: differs from the run's space"),
        ({"num_trials": 1}, "--trials: differs from the search that started this run"),
        ({"halving": True}, "--halving: differs"),
    ],
)
def test_a_resume_with_another_request_is_refused(
    change: dict[str, Any], message: str, searched: SearchView, recipe: Path
) -> None:
    options = {"space": "lr: [1.0e-3]\nr: [2, 4, 8]", "num_trials": 2}
    run = searched(**options)
    with pytest.raises(RunError) as caught:
        run_search(recipe, run, resume=True, **(options | change))
    assert message in str(caught.value)


def test_a_resume_with_another_recipe_is_refused(searched: SearchView, recipe: Path, tmp_path: Path) -> None:
    model = Path(read_recipe(recipe).model_name_or_path)
    other = write_recipe_file(tmp_path, model, training={"weight_decay": 0.1})
    with pytest.raises(RunError, match=r"training\.weight_decay: differs .*found: 0\.1"):
        run_search(other, searched(), resume=True)


def test_a_run_of_train_is_no_search(recipe: Path, tmp_path: Path) -> None:
    short = with_experiments(read_recipe(recipe), {})
    run = train(short.in_folder(recipe.parent), out=tmp_path / "run").run.folder
    with pytest.raises(RunError, match=r"this run is not a search.*loraloom train --resume"):
        run_search(recipe, run, resume=True)


def test_a_search_is_no_run_of_train_and_stays_as_it_is(searched: SearchView, recipe: Path) -> None:
    run = searched()
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and file.name != ".lock"}
    with pytest.raises(RunError, match=r"is a search.*loraloom search.*--resume"):
        train(read_recipe(recipe).in_folder(recipe.parent), resume=run)
    assert {file: file.read_bytes() for file in before} == before


def test_trials_that_do_not_fit_together_take_turns(
    searched: SearchView, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.search.concurrency.free_bytes", lambda device: 5 * GIB)
    monkeypatch.setattr("loraloom.search.concurrency.experiment_need", lambda *args: Need(2 * GIB, 0, 1))
    in_turns = run_search(recipe, tmp_path / "run").run
    assert "2 trials at a time" in Provenance.read(in_turns.provenance_file).decided["waves"]
    assert fruits(in_turns.folder) == fruits(searched())


def test_a_trial_whose_settings_do_not_go_together_fails_alone(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import loraloom.search.trials as trials

    original = trials.experiments_of

    def refusing(settings: Recipe, own: dict[str, dict[str, Any]]) -> Any:
        if {"lora.r": 2, "training.learning_rate": 0.01} in own.values():
            TypeAdapter(int).validate_python("no")  # as a rule between two settings would
        return original(settings, own)

    monkeypatch.setattr(trials, "experiments_of", refusing)
    space = "r: [1, 2]\nlr: [0.001, 0.01]"
    found = run_search(recipe, tmp_path / "run", space=space, sampler="grid", num_trials=4)
    (failed,) = found.ledger.failed
    assert failed.reason.startswith(
        "the trial's settings are invalid in combination: Input should be a valid integer"
    )
    assert len(found.ledger.ranking) == 3
    assert failed.name not in read_recipe(tmp_path / "run" / "recipe.yaml").experiments


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses of the second trial are no numbers from its second step on."""
    real = passes.span_losses

    def losses(base: Base, batch: Batch, *smoothing: Any) -> Tensor:
        found = real(base, batch, *smoothing)
        if "trial-0001" not in batch.slots or next(looks) < 2:
            return found
        factor = torch.ones_like(found)
        factor[batch.slots.index("trial-0001")] = math.nan
        return found * factor

    looks = itertools.count(1)
    monkeypatch.setattr(passes, "span_losses", losses)


@pytest.mark.usefixtures("poisoned")
def test_a_trial_that_is_not_finite_fails_alone(recipe: Path, tmp_path: Path) -> None:
    space = "r: [2, 4]\nlr: [0.001, 0.01]"
    found = run_search(recipe, tmp_path / "run", space=space, sampler="grid", num_trials=4)
    (failed,) = found.ledger.failed
    assert failed.name == "trial-0001"
    assert failed.reason.startswith("loss nan")
    assert "the weights are unchanged by this step" in failed.reason
    assert len(found.ledger.ranking) == 3
    study = study_of(tmp_path / "run")
    for number, frozen in enumerate(study.trials):
        assert frozen.state.name == ("FAIL" if number == 1 else "COMPLETE")
        assert bool(frozen.user_attrs["reason"]) == (number == 1)
    (described,) = describe_runs(tmp_path)
    assert described["status"] == "some failed"


@pytest.mark.usefixtures("poisoned")
def test_a_failed_trial_is_exit_code_three(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("lr: [0.001, 0.01]", encoding="utf-8")
    options = ["--space", tmp_path / "space.yaml", "--sampler", "grid", "--trials", "2"]
    argv = ["search", recipe, *options, "--out", tmp_path / "run"]
    ended = CliRunner().invoke(app, [str(word) for word in argv])
    assert ended.exit_code == 3, ended.output
    assert "failed" in ended.stdout


def test_where_every_trial_fails_that_is_an_error(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = passes.span_losses
    monkeypatch.setattr(
        passes, "span_losses", lambda base, batch, *smoothing: real(base, batch, *smoothing) * math.inf
    )
    with pytest.raises(TrainingError, match="no trial was completed: trial-0000: loss inf"):
        run_search(recipe, tmp_path / "run", num_trials=1)
    assert (tmp_path / "run" / "search.json").is_file()


def test_what_cannot_be_trained_is_said_before_anything_is(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="matches no"):
        run_search(recipe, tmp_path / "run", space="targets: [[q], [query]]", num_trials=2)
    assert not (tmp_path / "run").exists()


def test_halving_drops_the_weak_and_fills_their_places(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.search.concurrency.free_bytes", lambda device: 10 * GIB)  # four fit
    monkeypatch.setattr("loraloom.search.concurrency.experiment_need", lambda *args: Need(2 * GIB, 0, 1))
    found = run_search(recipe, tmp_path / "run", num_trials=8, halving=True)
    events = Run(tmp_path / "run").events()
    by_tick: dict[int, set[str]] = {}
    for event in events:
        if isinstance(event, TrainStep):
            by_tick.setdefault(event.step, set()).add(event.experiment)
    first = {f"trial-{number:04d}" for number in range(4)}
    assert by_tick[1] == by_tick[2] == first
    dropped = [e for e in events if isinstance(e, ExperimentEnd) and e.step == 2]
    assert [e.status for e in dropped] == ["pruned", "pruned"]
    assert by_tick[3] == (first - {e.experiment for e in dropped}) | {"trial-0004", "trial-0005"}
    assert max(map(len, by_tick.values())) == 4
    at_rung = {name: losses(tmp_path / "run", "eval", name)[0] for name in first}
    assert {e.experiment for e in dropped} == set(sorted(at_rung, key=at_rung.__getitem__)[2:])

    statuses = {trial.name: trial.status for trial in found.ledger.trials}
    pruned = [name for name, status in statuses.items() if status == "pruned"]
    assert len(statuses) == 8
    assert len(pruned) >= 4
    assert fruits(tmp_path / "run").adapters == sorted(statuses.keys() - set(pruned))
    for trial, frozen in zip(found.ledger.trials, study_of(tmp_path / "run").trials, strict=True):
        assert frozen.state.name == ("PRUNED" if trial.name in pruned else "COMPLETE")
        assert frozen.intermediate_values == {int(rung): figure for rung, figure in trial.rungs.items()}
        assert trial.steps == {"pruned": 2 * len(trial.rungs), "done": 8}[trial.status]


def test_halving_needs_an_evaluation_on_the_way(recipe: Path, tmp_path: Path) -> None:
    late = write_recipe_file(
        tmp_path, Path(read_recipe(recipe).model_name_or_path), training={"eval_steps": 8}
    )
    with pytest.raises(RecipeError, match="halving requires an evaluation before the last step"):
        run_search(late, tmp_path / "run", halving=True)
    assert not (tmp_path / "run").exists()


def test_tpe_learns_from_rounds_before(recipe: Path, tmp_path: Path) -> None:
    found = run_search(
        recipe, tmp_path / "run", num_trials=8, sampler="tpe", space="lr: {low: 1.0e-5, high: 0.05}"
    )
    run = found.run
    assert run.read_json(run.provenance_file)["together"] == 4
    events = run.events()
    drawn = [n for n, e in enumerate(events) if e.kind == "trial"]
    ended = [n for n, e in enumerate(events) if e.kind == "end"]
    assert drawn[3] < ended[3] < drawn[4]
    rates = [trial.parameters["training.learning_rate"] for trial in found.ledger.trials]
    assert min(rates[4:]) > min(rates[:4])  # small rates did worst


def test_a_grid_is_searched_whole(recipe: Path, tmp_path: Path) -> None:
    space = "r: {low: 1, high: 3}\nlr: [1.0e-3, 1.0e-2]"
    found = run_search(recipe, tmp_path / "run", space=space, sampler="grid", num_trials=6)
    tried = {(t.parameters["lora.r"], t.parameters["training.learning_rate"]) for t in found.ledger.trials}
    assert tried == {(r, rate) for r in (1, 2, 3) for rate in (1e-3, 1e-2)}


def test_the_table_ranks_and_shows_what_varies(searched: SearchView) -> None:
    run = Run(searched(halving=True))
    ledger = Ledger.of(run, "eval_loss", higher_is_better=False)
    columns, rows = table(ledger.trials_ranked, "eval_loss", {"lora.r": 0.25})
    assert columns == [
        "trial", "status", "eval_loss", "learning_rate", "r (25 %)", "target_modules", "best step",
    ]  # fmt: skip
    assert len(rows) == 6
    done = [float(row[2]) for row in rows if row[1] == "done"]
    assert done == sorted(done)
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)


def test_adapters_can_be_read(searched: SearchView) -> None:
    for name in fruits(searched()).adapters:
        assert read_adapter(Run(searched()).adapters / name).tensors


def test_the_gate_sees_every_kind_of_adapter(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def gate(base: Any, experiments: Any, *args: Any, **more: Any) -> list[Any]:
        seen.extend(e.lora.r for e in experiments)
        raise CheckError("no")

    monkeypatch.setattr("loraloom.session.material_checks.run_gate", gate)
    with pytest.raises(CheckError):
        run_search(recipe, tmp_path / "run", space="r: [2, 3]\nlr: [0.1, 0.2]", num_trials=2)
    assert sorted(seen) == [2, 3, 4]  # 4 is the recipe's, with which the rates are checked


def test_a_finished_search_can_be_given_more_trials(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    recipe = write_recipe_file(tmp_path, tiny("mt5"))
    first = run_search(recipe, tmp_path / "run", num_trials=2)
    steps = json.loads((tmp_path / "run" / "result.json").read_bytes())["steps"]
    told: list[Event] = []
    run_search(recipe, tmp_path / "run", num_trials=3, resume=True, report=told.append)
    assert "trial-0002 joins: 1 trial in one pass" in [e.message for e in told if isinstance(e, Note)]
    more = run_search(recipe, tmp_path / "run", num_trials=4, resume=True)
    assert more.ledger.trials[:2] == first.ledger.trials
    whole = run_search(recipe, tmp_path / "whole", num_trials=4)
    assert [trial.parameters for trial in more.ledger.trials] == [t.parameters for t in whole.ledger.trials]
    figures = [trial.figure for trial in more.ledger.trials]
    assert figures == pytest.approx([trial.figure for trial in whole.ledger.trials], rel=1e-4)
    assert json.loads((tmp_path / "run" / "result.json").read_bytes())["steps"] > steps
    assert changed_files(more.run) == []
    assert run_search(recipe, tmp_path / "run", num_trials=4, resume=True).ledger.trials == more.ledger.trials
    with pytest.raises(RunError, match=r"--trials.*Allowed: 4 or more"):
        run_search(recipe, tmp_path / "run", num_trials=3, resume=True)
