"""Words that stand for a missing text are named; a set of labels is not taken for them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from loraloom.checks.data.placeholders import SIGNS, check_placeholders, placeholder
from loraloom.checks.data.responses import check_alike
from loraloom.checks.finding import Finding
from loraloom.data.splitting.split import split_examples
from loraloom.recipe import Recipe
from loraloom.session.data_checks import check_data
from tests.checks.data_rows import examples, good, only, seen

WRITTEN = (
    *("NA", "N/A", "n/a", "N.A.", "null", "NULL", "None", "<none>", "[null]", "nan", "NaN", "nil", "TODO"),
    *(
        "TBD",
        "<noinput>",
        "无",
        "暂无",
        "（无）",
        "Ｎ／Ａ",
        "なし",
        "없음",
        "'None'",
        "**N/A**",
        "none.",
        "#N/A",
    ),
    *("undefined", "No answer", " n/a\n", "not  applicable"),
)
LABELS = ["positive", "negative", "neutral", "none"]


def answered(words: list[str], number: int = 100, share: float = 0.75) -> list[tuple[str, str]]:
    """Rows of which a share has one of these words as its answer, the next one each time."""
    rows = good(number)
    for place in range(round(share * number)):
        rows[place] = (rows[place][0], words[place % len(words)])
    return rows


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found]


def test_three_quarters_of_answers_that_say_nothing_are_a_warning() -> None:
    data = seen(answered(["NA", "null", "None", "nan"]))
    found = only(check_placeholders(data))
    assert (found.level, found.check) == ("warning", "placeholders")
    assert found.where == "data.train: data.jsonl:1, 2, 3, 4, 5 and 70 more"
    assert found.message.startswith("75 of 100 (75 %) answers are placeholders for a missing answer")
    assert found.message.endswith("`na` 19, `null` 19, `none` 19, `nan` 18")
    assert only(check_alike(data)).level == "ok"  # no one of them is half of the rows


@pytest.mark.parametrize("word", WRITTEN)
def test_however_it_is_written(word: str) -> None:
    assert placeholder(word)
    assert levels(check_placeholders(seen(answered([word], share=0.1)))) == ["warning"]


@pytest.mark.parametrize("word", ["-", "--", "—", "?", "？？", "...", "……", "***", "_"])
def test_signs_alone_are_one_kind(word: str) -> None:
    assert placeholder(word) == SIGNS


@pytest.mark.parametrize(
    "word",
    [
        "",
        "no",
        "没有",
        "unknown",
        "A",
        "x",
        "0",
        "42",
        "Nana",
        "nothing",
        "None of the above",
        "空气",
        "是",
        "😀",
        "C",
    ],
)
def test_short_answers_are_no_placeholders(word: str) -> None:
    assert placeholder(word) == ""


def test_a_set_of_labels_draws_no_warning() -> None:
    rows = [(source, LABELS[number % 3]) for number, (source, _) in enumerate(good(90))]
    data = seen(rows)
    assert only(check_placeholders(data)).level == "ok"
    assert only(check_alike(data)).level == "ok"


def test_a_label_that_is_such_a_word_is_named_in_a_note() -> None:
    rows = [(source, LABELS[number % 4]) for number, (source, _) in enumerate(good(100))]
    found = only(check_placeholders(seen(rows)))
    assert found.level == "note"
    assert "25 of 100 (25 %) answers are `none`, one of only a few" in found.message
    assert "one of your labels" in found.fix


def test_several_such_words_are_no_labels() -> None:
    labels = [*LABELS, "NA", "null"]
    rows = [(source, labels[number % 6]) for number, (source, _) in enumerate(good(120))]
    assert only(check_placeholders(seen(rows))).level == "warning"


def test_a_few_are_noted_and_one_alone_is_let_pass() -> None:
    assert levels(check_placeholders(seen(answered(["N/A"], share=0.02)))) == ["note"]
    assert levels(check_placeholders(seen(answered(["N/A"], share=0.01)))) == ["ok"]
    assert levels(check_placeholders(seen(answered(["N/A"], number=4, share=0.5)))) == ["warning"]


def test_sources_are_looked_at_behind_their_prefix() -> None:
    rows = [
        ("ask: N/A", response) if n < 10 else (f"ask: {s}", response)
        for n, (s, response) in enumerate(good(60))
    ]
    found = only(check_placeholders(seen(rows, source_prefix="ask: ")))
    assert found.level == "warning"
    assert found.message.startswith("10 of 60 (16.7 %) sources are placeholders for a missing one: `n/a` 10")


def test_an_input_column_that_only_says_that_there_is_none_is_found_at_the_sources_end() -> None:
    """As alpaca files have it: the instruction, and `<noinput>` below it."""
    rows = [
        (f"{source}\n<noinput>" if n % 2 else source, response)
        for n, (source, response) in enumerate(good(60))
    ]
    found = only(check_placeholders(seen(rows)))
    assert found.level == "warning"
    assert found.message.startswith("30 of 60 (50 %) sources end in a line that is only `noinput` 30")


def test_every_part_is_looked_at_and_the_retained_rows_too() -> None:
    data = seen(good(40), held_out=answered(["null"], number=20, share=0.5))
    data = dataclasses.replace(data, retained=examples(answered(["暂无"], number=20), "old.jsonl"))
    held_out, retained = check_placeholders(data)
    assert held_out.where.startswith("data.eval: eval.jsonl:1, 2")
    assert retained.where.startswith("data.retain: old.jsonl:1, 2")
    assert "`暂无` 15" in retained.message


def test_the_retain_file_of_a_recipe_is_read(tmp_path: Path) -> None:
    for name, rows in (("rows", good(30)), ("old", answered(["NaN"], number=20))):
        rows_json = [{"instruction": source, "response": response} for source, response in rows]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows_json), encoding="utf-8")
    settings = {"train": "rows.json", "retain": "old.json"}
    recipe = Recipe.model_validate({"model_name_or_path": "starter", "data": settings}).in_folder(tmp_path)
    found = check_data(recipe, split_examples(recipe.data)).findings
    (finding,) = [each for each in found if each.check == "placeholders"]
    assert finding.where.startswith("data.retain: old.json:")
    assert finding.level == "warning"


def test_a_stock_answer_among_free_texts_is_a_warning_of_its_own() -> None:
    found = only(check_alike(seen(answered(["I do not know."], share=0.3))))
    assert found.level == "warning"
    assert "30 of 100 (30 %) training rows have the same short response" in found.message
    assert only(check_alike(seen(answered(["I do not know."], share=0.15)))).level == "ok"
    long = "这是一个比较长的回答，" * 8
    assert only(check_alike(seen(answered([long], share=0.3)))).level == "ok"
