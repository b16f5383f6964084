"""A comparison goes on where it was stopped, and takes a run that is still training as it is."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom import Recipe, compare, train
from loraloom.errors import DataError

ROWS = [
    {"instruction": f"如何处理{a}{b}", "response": f"先{b}再{a}"}
    for a in "朋友学校家人"
    for b in "压力心情时候"
]


@pytest.fixture
def run(tmp_path: Path, tiny: Callable[[str], Path]) -> Path:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 12, "max_source_length": 8},
            "training": {"learning_rate": 3e-2, "num_train_epochs": 2, "per_device_train_batch_size": 4},
            "generation": {"max_new_tokens": 6, "batch_size": 2},
            "experiments": {"long": {"training": {"num_train_epochs": 4}}, "short": {}},
        }
    )
    train(recipe, folder=tmp_path, out=tmp_path / "run")
    return tmp_path / "run"


def without_time(comparison: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in comparison.items() if key not in ("time", "file")}


def test_what_was_answered_before_an_interruption_is_not_answered_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = without_time(compare(run))
    (run / "compare" / "eval.json").unlink()
    # By its module's name: `loraloom.workflows.compare` the attribute may be the function.
    monkeypatch.setattr(importlib.import_module("loraloom.workflows.compare"), "BATCHES_AT_ONCE", 1)

    def killed(event: str, **fields: Any) -> None:
        if event == "answered" and fields["done"] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(run, report=killed)
    assert not (run / "compare" / "eval.json").exists()
    partial = run / "compare" / ".eval.partial.jsonl"
    partial.write_text(
        partial.read_text(encoding="utf-8") + '{"base": {"tex', encoding="utf-8"
    )  # cut by a crash
    told: list[Any] = []
    again = compare(run, report=lambda event, **fields: told.append((event, fields)))
    assert ("note", {"message": "going on after the 6 rows that were answered before"}) in told
    assert [f["done"] for e, f in told if e == "answered"] == [8, 10, 12]
    assert [row["answers"] for row in again["rows"]] == [row["answers"] for row in whole["rows"]]
    assert again["models"]["long"]["figures"] == pytest.approx(whole["models"]["long"]["figures"], rel=1e-5)
    assert not partial.exists()


def test_answers_of_other_settings_are_not_taken_up(run: Path) -> None:
    partial = run / "compare" / ".eval.partial.jsonl"
    partial.write_text('{"key": "of other adapters"}\n{"base": {"texts": ["x"]}}\n', encoding="utf-8")
    told: list[str] = []
    compare(run, report=lambda event, **fields: told.append(fields.get("message", "")))
    assert not any("going on" in message for message in told)


def test_of_an_experiment_still_training_its_best_so_far_answers(run: Path) -> None:
    finished = compare(run, experiments=["long"])
    (run / "result.json").unlink()
    shutil.rmtree(run / "adapters" / "long")
    told: list[str] = []
    so_far = compare(run, report=lambda event, **fields: told.append(fields.get("message", "")))
    assert "long is still training: this is its best so far" in told
    assert [row["answers"]["long"] for row in so_far["rows"]] == [
        row["answers"]["long"] for row in finished["rows"]
    ]


def test_a_prompt_past_the_limit_is_said_and_an_empty_one_is_refused(run: Path) -> None:
    told: list[str] = []
    compare(
        run,
        prompts=["如何处理压力" * 5],
        report=lambda event, **fields: told.append(fields.get("message", "")),
    )
    assert "1 of 1 sources are cut to 8 tokens: the question itself in 1" in told
    with pytest.raises(DataError, match="prompt 2 is empty"):
        compare(run, prompts=["你好", "  "])


def test_init_plans_enough_steps_for_a_few_rows_and_no_more_than_usual_for_many(tmp_path: Path) -> None:
    from loraloom.recipe.file import parse_recipe
    from loraloom.workflows.init import init_recipe

    for num_rows, epochs in ((20, 30), (200, 5), (4000, 3)):
        file = tmp_path / f"{num_rows}.jsonl"
        rows = [json.dumps({"instruction": f"问 {n}", "response": f"答 {n}"}) for n in range(num_rows)]
        file.write_text("\n".join(rows), encoding="utf-8")
        recipe = parse_recipe(init_recipe(file, "starter"), name="init")
        assert recipe.training.num_train_epochs == epochs
        assert recipe.training.learning_rate == 1e-3
