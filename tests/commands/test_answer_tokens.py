"""What was taught is what is answered: added tokens stay, and answers may be as long as responses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from loraloom.commands.compare import compare
from loraloom.commands.predict import predict
from loraloom.commands.train import train
from loraloom.evaluate.row_decoding import RowDecoding
from loraloom.export.merged_generation import merged_generation_config
from loraloom.recipe.reading import parse_recipe
from loraloom.session.material import load_recipe_base
from tests.tiny import make_folder

ANSWER = "<extra_id_0> 先 <sep> 再[NAME]"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose responses hold tokens that were added to the base's tokenizer, and a sentinel."""
    folder = tmp_path_factory.mktemp("tokens")
    base = make_folder(folder / "base", "mt5", vocab_size=600)
    tokenizer = AutoTokenizer.from_pretrained(base)
    added = ["<sep>", "[NAME]", "<extra_id_0>", "<extra_id_1>"]
    tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.save_pretrained(base)
    rows = [{"instruction": f"怎么办 {n}", "response": ANSWER} for n in range(12)]
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    recipe = parse_recipe(
        json.dumps(
            {
                "model_name_or_path": str(base),
                "data": {"train": "rows.json", "eval": 4, "max_target_length": 20},
                "lora": {"target_modules": ["q"], "r": 2},
                "training": {"max_steps": 1, "metric_for_best_model": "chrf"},
                "device": "cpu",
            }
        ),
        name="recipe",
    )
    train(recipe.in_folder(folder), out=folder / "run")
    return folder / "run"


@pytest.fixture
def says(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let every model give one answer to every row."""
    tokenizer = AutoTokenizer.from_pretrained(run.parent / "base")

    def say(text: str) -> None:
        tokens = tokenizer(text)["input_ids"][:-1]

        def answer(self: RowDecoding, rows: Sequence[int]) -> None:
            for own in self.answers:
                for row in rows:
                    own[row] = tokens

        monkeypatch.setattr(RowDecoding, "answer", answer)

    return say


def messages(told: list[dict[str, Any]]) -> list[str]:
    return [fields["message"] for fields in told if "message" in fields]


def test_a_perfect_adapter_matches_every_reference(run: Path, says: Callable[[str], None]) -> None:
    says(f"{ANSWER}<extra_id_0>")
    assert compare(run).models["main"].figures["exact_match"] == 0
    says(ANSWER)
    found = compare(run)
    assert found.models["main"].figures["exact_match"] in (1, 100)
    assert {row.answers["main"] for row in found.rows} == {ANSWER}


def test_predict_says_what_was_taught_and_no_other_sentinel(
    run: Path, says: Callable[[str], None], tmp_path: Path
) -> None:
    says(f"{ANSWER}<extra_id_1>")
    (tmp_path / "asked.txt").write_text("怎么办\n", encoding="utf-8")
    assert [row["answer"] for row in predict(run, tmp_path / "asked.txt")] == [ANSWER]


def test_the_card_shows_answers_with_their_tokens(run: Path) -> None:
    adapter = run / "adapters" / "main"
    origin = json.loads((adapter / "loraloom.json").read_text(encoding="utf-8"))
    assert sorted(origin["answer_tokens"]) == ["<extra_id_0>", "<sep>", "[NAME]"]
    assert "skip_special_tokens=True" not in (adapter / "README.md").read_text(encoding="utf-8")


def test_answers_that_are_cut_are_said(run: Path, says: Callable[[str], None], tmp_path: Path) -> None:
    says("好" * 20)
    told: list[dict[str, Any]] = []
    compare(run, report=lambda event: told.append(event.to_json()))
    cut = "answers were truncated at generation.max_new_tokens (20): "
    assert f"{cut}base 4 of 4, main 4 of 4" in messages(told)
    (tmp_path / "asked.txt").write_text("怎么办\n你好\n", encoding="utf-8")
    told.clear()
    list(predict(run, tmp_path / "asked.txt", report=lambda event: told.append(event.to_json())))
    assert f"{cut}main 2 of 2" in messages(told)
    says("好" * 19)
    told.clear()
    compare(run, report=lambda event: told.append(event.to_json()))
    assert not any(cut in message for message in messages(told))


def test_training_says_that_answers_are_cut(run: Path, says: Callable[[str], None], tmp_path: Path) -> None:
    says("好" * 20)
    shutil.copy(run.parent / "rows.json", tmp_path / "rows.json")
    recipe = parse_recipe((run / "recipe.yaml").read_text(encoding="utf-8"), name="recipe")
    told: list[dict[str, Any]] = []
    train(recipe.in_folder(tmp_path), out=tmp_path / "run", report=lambda event: told.append(event.to_json()))
    assert "answers were truncated at generation.max_new_tokens (20): main 4 of 4" in messages(told)


def test_a_merged_model_answers_as_long_as_the_responses(run: Path) -> None:
    recipe = parse_recipe((run / "recipe.yaml").read_text(encoding="utf-8"), name="recipe")
    assert recipe.generation.max_new_tokens == 20
    config, _ = merged_generation_config(load_recipe_base(recipe.in_folder(run.parent)), recipe.generation)
    assert config.max_new_tokens == 20
