"""Thai rows have no BLEU: every reader of a comparison does without, and says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom import Recipe, compare, train
from loraloom.commands.card import card
from loraloom.commands.report import write_report
from loraloom.console.results import print_comparison
from loraloom.run.events import Evaluation

ROWS = [
    {"instruction": f"ถาม {ask}{number}", "response": f"ตอบ{answer}\n{number}"}
    for ask, answer in (("กิน", "ข้าว"), ("นอน", "เตียง"), ("เดิน", "ถนน"))
    for number in range(5)
]
WHY = "sacrebleu has no tokenizer for Thai"


def test_a_comparison_without_bleu_is_shown_everywhere(
    tmp_path: Path, tiny: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": "rows.json", "eval": 5},
            "training": {
                "max_steps": 1,
                "per_device_train_batch_size": 4,
                "metric_for_best_model": "chrf",
            },
            "generation": {"max_new_tokens": 4},
            "experiments": {"a": {}, "b": {"lora": {"r": 4}}},
        }
    )
    run = train(recipe.in_folder(tmp_path), out=tmp_path / "run").run
    evaluated = [event for event in run.events() if isinstance(event, Evaluation)]
    assert evaluated
    assert all("chrf" in event.figures and "bleu" not in event.figures for event in evaluated)
    comparison = compare(run.folder)
    assert all("bleu" not in own.figures for own in comparison.models.values())
    assert all("bleu" not in own.figures for own in comparison.groups.values())
    assert {entry.metric for entry in comparison.differences} >= {"chrf", "rouge_l", "exact_match"}
    assert "bleu" not in {entry.metric for entry in comparison.differences}
    assert WHY in comparison.signatures["bleu"]
    assert set(comparison.ranking) == {"a", "b"}
    capsys.readouterr()
    print_comparison(comparison)
    assert f"bleu: not computed: {WHY}" in capsys.readouterr().out
    for format in ("html", "md", "json", "csv"):
        text = write_report(run.folder, format).read_text(encoding="utf-8")
        assert (WHY in text) == (format != "csv")
    assert WHY in card(run.folder, experiment="a")["card"]
