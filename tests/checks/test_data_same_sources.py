"""What the base cannot tell apart, what it takes for an order, and answers that will be cut."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer, T5Config, T5ForConditionalGeneration

from loraloom.checks.data.data_suite import run_data_checks
from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.data.round_trip import check_round_trip
from loraloom.checks.data.same_sources import check_control_tokens, check_same_sources
from loraloom.checks.data.tokenization import (
    check_answer_length,
    check_lengths,
    check_truncation,
    check_unknown_tokens,
)
from loraloom.commands.check import check
from loraloom.data.sources.source import Kind, Piece, join, packed
from loraloom.data.splitting.split import split_examples
from loraloom.recipe.reading import parse_recipe
from loraloom.session.data_checks import check_data
from tests.checks.data_rows import good, only, seen
from tests.checks.test_data_tokenization import character_tokenizer


@pytest.fixture
def tokenizer(tiny: Callable[[str], Path]) -> TextTokenizer:
    """Characters as tokens, unknown ones as bytes."""
    return TextTokenizer.of_folder(tiny("mt5"))


def with_system(data: DataView, system: str) -> DataView:
    """With a system text in front of every training question."""
    train = []
    for example in data.split.train:
        pieces = [Piece(Kind.SYSTEM, system, "\n"), Piece(Kind.QUESTION, example.source)]
        train.append(dataclasses.replace(example, source=join(pieces), parts=packed(pieces)))
    return dataclasses.replace(data, split=dataclasses.replace(data.split, train=train))


def test_sources_that_a_cut_makes_one_are_an_error_from_5_percent_on(tokenizer: TextTokenizer) -> None:
    data = with_system(seen(good(16), tokenizer=tokenizer, source_truncation="right"), "好" * 400)
    error = only(check_same_sources(data))
    assert error.level == "error"
    assert error.message.startswith(
        "16 of 16 (100 %) rows have the same tokens as a row with a different source"
    )
    assert "16 of them are cut at 256 tokens" in error.message
    assert "data.source_truncation: context" in error.fix
    assert "好" not in error.line
    assert (
        only(check_same_sources(with_system(seen(good(16), tokenizer=tokenizer), "好" * 400))).level == "ok"
    )


def test_fewer_are_a_warning_and_say_where(tokenizer: TextTokenizer) -> None:
    twins = [(f"{'好' * 300}{end}", f"答{end}") for end in "一二"]
    few = only(check_same_sources(seen([*good(39), *twins], tokenizer=tokenizer)))
    assert (few.level, few.where) == ("warning", "data.jsonl:40, 41")
    at_5_percent = only(check_same_sources(seen([*good(38), *twins], tokenizer=tokenizer)))
    assert at_5_percent.level == "error"


def test_rows_of_two_parts_are_told_apart_too(tokenizer: TextTokenizer) -> None:
    train, held_out = [("好" * 300 + "一", "答")], [("好" * 300 + "二", "答")]
    found = only(check_same_sources(seen([*good(50), *train], held_out=held_out, tokenizer=tokenizer)))
    assert (found.level, found.where) == ("warning", "data.jsonl:51; eval.jsonl:1")


def test_one_text_with_several_answers_is_no_matter_of_tokens(tokenizer: TextTokenizer) -> None:
    rows = [("好" * 300, f"答{n}") for n in range(9)] + [(f" {'好' * 300}\n", "答")]
    assert only(check_same_sources(seen(rows, tokenizer=tokenizer))).level == "ok"


def test_what_the_tokenizer_does_not_know_makes_one_of_two() -> None:
    knows = character_tokenizer("你好答")
    error = only(check_same_sources(seen([("你龘", "答"), ("你𠀀", "好")], tokenizer=knows)))
    assert error.level == "error"
    assert "0 of them are cut" in error.message
    assert error.fix == "Replace what the tokenizer does not know, or use another base."


def test_truncation_says_what_was_cut(tokenizer: TextTokenizer) -> None:
    data = with_system(seen(good(10), tokenizer=tokenizer), "好" * 400)
    source, _ = check_truncation(data)
    assert "are cut at 256 tokens; EOS is kept; what is cut: the system text in 10;" in source.message
    long, _ = check_truncation(seen([("好" * 300, "答")], tokenizer=tokenizer))
    assert "what is cut: the question itself in 1;" in long.message


def test_answers_shorter_than_what_is_learnt_are_a_warning(tokenizer: TextTokenizer) -> None:
    rows = [("我", "好" * n) for n in range(1, 41)]
    data = seen(rows, tokenizer=tokenizer, max_new_tokens=31, max_target_length=36)
    found = only(check_answer_length(data))
    assert (found.level, found.where) == ("warning", "generation.max_new_tokens")
    assert found.message.startswith("10 of 40 (25 %) training responses exceed the 31 tokens")
    assert "data.jsonl:31" in found.message
    assert found.fix.startswith("Set generation.max_new_tokens: 36")
    # A response that training cuts at 36 is learnt, and answered, with 36.
    data = seen(rows, tokenizer=tokenizer, max_new_tokens=36, max_target_length=36)
    assert only(check_answer_length(data)).level == "ok"


@pytest.mark.parametrize(
    ("token", "taken_for"), [("</s>", "the end"), ("<pad>", "padding"), ("<unk>", "an unknown")]
)
def test_the_name_of_a_control_token_is_said_as_such(
    tokenizer: TextTokenizer, token: str, taken_for: str
) -> None:
    rows = [*good(10), ("怎么办", f"先{token}再"), *good(9, first=10)]
    data = seen(rows, tokenizer=tokenizer)
    found = only(check_control_tokens(data))
    assert (found.level, found.where) == ("warning", "data.jsonl:11")
    assert found.message.startswith(f"1 of 20 (5 %) training responses contain the text `{token}`")
    assert taken_for in found.message
    assert only(check_round_trip(data)).level == "ok"  # it is said once
    assert not any("unknown to the tokenizer" in other.message for other in check_unknown_tokens(data))


def test_a_name_that_the_tokenizer_leaves_alone_is_text() -> None:
    knows = character_tokenizer("你好</s>")
    plain = dataclasses.replace(knows, pad_token="<pad>")
    assert only(check_control_tokens(seen([("你<pad>", "好")], tokenizer=plain))).level == "ok"


@pytest.fixture
def stored(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A base whose tokenizer was saved after a padded and truncated call."""
    folder = Path(shutil.copytree(tiny("mt5"), tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<sep>", "[NAME]"]})
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer(["a", "b" * 99], padding="max_length", truncation=True, max_length=40)
    tokenizer.save_pretrained(folder)
    file = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert file["truncation"]["max_length"] == file["padding"]["strategy"]["Fixed"] == 40
    return folder


def test_no_stored_state_of_a_tokenizer_reaches_a_figure(stored: Path, tiny: Callable[[str], Path]) -> None:
    rows = [("好" * n, "学" * 2 * n) for n in range(1, 101)]
    clean = TextTokenizer.of_folder(tiny("mt5"))
    loaded = AutoTokenizer.from_pretrained(stored)
    for own in (TextTokenizer.of_folder(stored), TextTokenizer.of_transformers(loaded)):
        for limits in ({"max_source_length": 30}, {"max_target_length": 30}):
            expected = run_data_checks(seen(rows, tokenizer=clean, **limits))
            assert run_data_checks(seen(rows, tokenizer=own, **limits)) == expected


def test_tokens_that_a_user_added_are_read_and_written(stored: Path) -> None:
    rows = [(f"{s}<sep>[NAME]", f"[NAME] <sep>{r}") for s, r in good(20)]
    data = seen(rows, tokenizer=TextTokenizer.of_folder(stored))
    assert only(check_round_trip(data)).level == "ok"


@pytest.fixture
def byt5(tmp_path: Path) -> Path:
    """A base whose tokenizer is written in Python."""
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 384}
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    model = T5ForConditionalGeneration(T5Config(feed_forward_proj="gated-gelu", **shape, **special))
    model.generation_config.eos_token_id = 1
    model.save_pretrained(tmp_path / "byt5")
    ByT5Tokenizer().save_pretrained(tmp_path / "byt5")
    return tmp_path / "byt5"


def test_a_tokenizer_without_a_backend_is_checked_like_others(byt5: Path, tmp_path: Path) -> None:
    rows = [{"instruction": "问题" * 20 + str(n), "response": f"{n} </s>" + "答" * 10} for n in range(20)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    text = f"{{model_name_or_path: {byt5}, data: {{train: rows.json, max_source_length: 64}}, device: cpu}}"
    recipe = parse_recipe(text, name="recipe")
    split = split_examples(recipe.data.in_folder(tmp_path))
    alone = check_data(recipe.in_folder(tmp_path), split, loads_tokenizer=True)
    for findings in (alone.findings, check(recipe.in_folder(tmp_path), split=split)):
        found = {finding.check: finding for finding in findings if "response" not in finding.where}
        assert "the longest 123" in found["lengths"].message + str(findings)
        cut = next(f for f in findings if f.check == "truncation" and f.level == "warning")
        assert cut.message.startswith("18 of 18 (100 %) training sources are cut at 64 tokens")
        assert found["same-sources"].level == "error"
        assert "`</s>`" in found["control-tokens"].message
    assert alone.without_tokens == []


def test_percentiles_of_bytes_are_those_of_training(byt5: Path) -> None:
    own = TextTokenizer.of_transformers(AutoTokenizer.from_pretrained(byt5))
    source, response = check_lengths(seen([("好", "ab")] * 3, tokenizer=own))
    assert "the longest 4" in source.message
    assert "the longest 3" in response.message
    assert own.texts(own.ids(["好 ab"])) == ["好 ab"]
