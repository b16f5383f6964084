"""What a name stands for: an adapter, all seeds of an experiment, or nothing, with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import Recipe
from loraloom.commands.card import card
from loraloom.commands.compare import compare
from loraloom.commands.merge import merge
from loraloom.commands.predict import predict
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.run.folder import Run
from loraloom.session.adapter_names import adapters_of, one_adapter
from loraloom.text.catalogue import rendered
from loraloom.text.language import catalogue_of
from tests.commands.trained import ROWS

TWO_SEEDS: dict[str, Any] = {"experiments": {"wide": {}, "narrow": {"lora": {"r": 2}}}, "seeds": 2}


def recipe_of(**more: Any) -> Recipe:
    return Recipe.model_validate({"model_name_or_path": "starter", "data": {"train": "rows.json"}, **more})


def run_with(
    folder: Path, entries: dict[str, dict[str, Any]], trials: list[dict[str, Any]] | None = None
) -> Run:
    """A finished run whose experiments ended so; what is `done` has an adapter."""
    run = Run(folder / "run")
    run.adapters.mkdir(parents=True)
    for name, entry in entries.items():
        if entry["status"] == "done":
            (run.adapters / name).mkdir()
            (run.adapters / name / "loraloom.json").write_text('{"metric_for_best_model": "chrf"}')
    usual = {"reason": "", "step": 7, "best_step": 7, "best_metric": 31.5, "forgetting": None}
    whole = {name: {**usual, **entry} for name, entry in entries.items()}
    result = {"experiments": whole, "steps": 7, "wall_seconds": 1.5, "peak_bytes": 10**8}
    run.result_file.write_text(json.dumps(result))
    if trials is not None:
        search = {"format": 1, "metric": "eval_loss", "higher_is_better": False, "best": trials[0]["name"]}
        told = [{"parameters": {"lora.r": 4}, "best_step": None, **trial} for trial in trials]
        (run.folder / "search.json").write_text(json.dumps({**search, "trials": told}))
    return run


@pytest.fixture
def seeded(tmp_path: Path) -> Run:
    failed = {"status": "failed", "reason": "its loss is not finite", "step": 3}
    done = {"status": "done"}
    names = {"wide@42": done, "wide@43": done, "narrow@42": done, "narrow@43": failed}
    return run_with(tmp_path, names)


def test_an_experiment_stands_for_all_its_seeds_where_several_may_answer(seeded: Run) -> None:
    recipe = recipe_of(**TWO_SEEDS)
    assert adapters_of(seeded, recipe, ["wide"]) == (["wide@42", "wide@43"], [])
    assert adapters_of(seeded, recipe, ["wide@43", "wide", "wide"])[0] == ["wide@43", "wide@42"]
    chosen, notes = adapters_of(seeded, recipe, ["narrow"])
    assert chosen == ["narrow@42"]
    assert notes == [
        "narrow@43 failed after step 3: its loss is not finite; narrow stands for its other adapters"
    ]
    assert rendered(notes[0], catalogue_of("zh")).endswith("；narrow 表示其余的")
    chosen, notes = adapters_of(seeded, recipe, None)
    assert chosen == ["wide@42", "wide@43", "narrow@42"]
    assert notes == ["narrow@43 failed after step 3: its loss is not finite"]


def test_where_one_is_needed_several_seeds_are_refused_with_their_names_and_a_command(seeded: Run) -> None:
    recipe = recipe_of(**TWO_SEEDS)
    usage = ["predict", "a run", "rows.json"]
    with pytest.raises(RunError) as refused:
        one_adapter(seeded, recipe, "wide", usage=usage)
    (problem,) = refused.value.problems
    assert problem.what == "`wide` has 2 adapters, one per seed, but exactly one is required"
    assert problem.allowed == "wide@42 (chrf 31.5000), wide@43 (chrf 31.5000)"
    assert problem.fix == "For example: `loraloom predict 'a run' rows.json --experiment wide@42`"
    with pytest.raises(RunError, match=r"several experiments.*wide@42.*wide@43.*narrow@42 \(chrf"):
        one_adapter(seeded, recipe, None, usage=usage)
    with pytest.raises(RunError, match=r"`narrow` has 2.*Allowed: narrow@42 \(chrf 31\.5000\)\."):
        one_adapter(seeded, recipe, "narrow", usage=usage)
    assert one_adapter(seeded, recipe, "wide@43", usage=usage) == ("wide@43", [])


def test_of_a_recipe_without_experiments_and_with_seeds_the_name_is_main(tmp_path: Path) -> None:
    run = run_with(tmp_path, {name: {"status": "done"} for name in ("main@42", "main@43")})
    with pytest.raises(RunError, match=r"`main` has 2 adapters.*--experiment main@42"):
        one_adapter(run, recipe_of(seeds=2), None, usage=["card", "run"])


@pytest.mark.parametrize(
    ("given", "near"), [("wied", "wide"), ("wide@44", "wide@4"), ("Narrow", "narrow"), ("wide@4", "wide@4")]
)
def test_a_typo_is_met_with_the_nearest_name(seeded: Run, given: str, near: str) -> None:
    with pytest.raises(RunError, match=f"has no experiment `{given}`.*Did you mean `{near}"):
        adapters_of(seeded, recipe_of(**TWO_SEEDS), [given])


def test_every_wrong_name_is_said_at_once_with_its_own_reason(seeded: Run) -> None:
    with pytest.raises(RunError) as refused:
        adapters_of(seeded, recipe_of(**TWO_SEEDS), ["wide", "something", "narrow@43", "base"])
    said = [str(problem) for problem in refused.value.problems]
    assert len(said) == 3
    assert "has no experiment `something`" in said[0]
    assert "narrow@43 failed after step 3: its loss is not finite. Allowed: wide@42" in said[1]
    assert "Use `predict --experiment base` for answers of the base" in said[2]


def test_a_pruned_trial_says_so_and_one_with_an_adapter_answers(tmp_path: Path) -> None:
    trials = [
        {"name": "trial-0000", "status": "done", "steps": 9, "figure": 2.5, "reason": ""},
        {"name": "trial-0001", "status": "pruned", "steps": 4, "figure": 3.5, "reason": "behind at 25 %"},
        {"name": "trial-0002", "status": "failed", "steps": 1, "figure": None, "reason": "not finite"},
    ]
    recipe = recipe_of(experiments={"trial-0000": {}, "trial-0002": {}})
    entries = {"trial-0000": {"status": "done"}, "trial-0002": {"status": "failed", "reason": "not finite"}}
    run = run_with(tmp_path, entries, trials)
    assert one_adapter(run, recipe, "trial-0000", usage=["card", "run"]) == ("trial-0000", [])
    pruned = (
        r"trial-0001 has no adapter, because it was pruned after step 4: behind at 25 %\. Allowed: trial-0000"
    )
    with pytest.raises(RunError, match=pruned):
        one_adapter(run, recipe, "trial-0001", usage=["card", "run"])
    with pytest.raises(RunError, match="trial-0002 failed after step 7: not finite"):
        adapters_of(run, recipe, ["trial-0002"])


def test_what_has_no_adapter_yet_is_trained_on(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"first": {"status": "done"}})
    run.result_file.unlink()
    recipe = recipe_of(experiments={"first": {}, "second": {}})
    with pytest.raises(RunError, match=r"`second` has no adapter yet.*`loraloom train --resume"):
        adapters_of(run, recipe, ["second"])
    assert one_adapter(run, recipe, "second", usage=[], so_far=["second"])[0] == "second"
    assert adapters_of(run, recipe, ["first"])[1] == [
        "training has not ended; only adapters that are finished so far are used"
    ]


@pytest.fixture(scope="module")
def two_seeds(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `main` from seeds 42 and 43."""
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 6},
            "training": {"learning_rate": 0.02, "num_train_epochs": 2, "save_strategy": "no"},
            "generation": {"max_new_tokens": 8},
            "seeds": 2,
        }
    )
    return train(recipe.in_folder(folder), out=folder / "run").run.folder


def test_no_verb_takes_the_first_seed_for_the_experiment(two_seeds: Path, tmp_path: Path) -> None:
    rows = two_seeds.parent / "rows.json"
    for call in (
        lambda: predict(two_seeds, rows, experiment="main"),
        lambda: predict(two_seeds, rows),
        lambda: card(two_seeds, experiment="main"),
        lambda: merge(two_seeds, tmp_path / "merged", experiment="main"),
    ):
        with pytest.raises(RunError, match=r"`main` has 2 adapters, one per seed.*main@42 \(.*main@43 \("):
            call()
    assert not list(tmp_path.iterdir())
    compared = compare(two_seeds, experiments=["main", "main@43"])
    assert list(compared.models) == ["base", "main@42", "main@43"]
    assert compared.groups["main"].models == ["main@42", "main@43"]
    wanted = {row.source: row.answers["main@43"] for row in compared.rows}
    answered = {line["source"]: line["answer"] for line in predict(two_seeds, rows, experiment="main@43")}
    assert {source: answered[source] for source in wanted} == wanted


def test_the_card_of_a_seed_has_its_experiments_figures(two_seeds: Path) -> None:
    compared = compare(two_seeds)
    text = card(two_seeds, experiment="main@43")["card"]
    assert compared.sentences[0] in text
    assert "The sentence and the differences cover 2 seeds of main" in text
    assert f"| {compared.models['main@43'].figures['chrf']:.4f} |" in text
