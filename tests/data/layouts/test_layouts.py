"""Which layouts are recognised, and what is said where none is."""

from __future__ import annotations

import pytest
from data_files import good_rows, refusal

from loraloom.data.examples import read_examples
from loraloom.recipe import DataSettings

PAIRS = [
    ("instruction", "response"),
    ("instruction", "output"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("source", "target"),
    ("input", "output"),
    ("text", "summary"),
    ("document", "summary"),
    ("dialogue", "summary"),
    ("article", "highlights"),
    ("input_text", "target_text"),
]


def texts(examples):
    return [(example.source, example.response) for example in examples.examples]


@pytest.mark.parametrize(("asked", "answered"), PAIRS)
def test_pairs_of_columns_are_recognised(load, asked, answered):
    examples = load([{answered: f"a{i}", "id": i, asked: f"q{i}"} for i in range(20)])
    assert texts(examples) == [(f"q{i}", f"a{i}") for i in range(20)]
    assert examples.layout == f"{asked}/{answered}"
    assert any("unused columns: `id`" in note for note in examples.notes)


@pytest.mark.parametrize("answer", ["output", "response"])
def test_a_filled_input_follows_the_instruction_and_an_empty_one_joins_nothing(load, answer):
    inputs = ["text", "", "  ", None]
    rows = [{"instruction": "q", "input": value, answer: str(i)} for i, value in enumerate(inputs)]
    examples = load([*rows, {"instruction": "q", answer: "4"}])
    assert [source for source, _ in texts(examples)] == ["q\ntext", "q", "q", "q", "q"]
    assert examples.layout == f"instruction/input/{answer}"


def test_context_is_an_input_too(load):
    rows = [{"instruction": "q", "context": "c", "response": "a", "category": "x"}]
    assert texts(load(rows)) == [("q\nc", "a")]


def test_translation_pairs_take_their_two_keys_in_order_or_as_columns_says(load):
    rows = [{"translation": {"en": f"e{i}", "de": f"d{i}"}} for i in range(20)]
    rows[7] = {"translation": {"de": "d7", "en": "e7"}}
    assert texts(load(rows))[6:9] == [("e6", "d6"), ("e7", "d7"), ("e8", "d8")]
    assert any("translation from `en` to `de`" in note for note in load(rows).notes)
    turned = load(rows, columns={"instruction": "de", "response": "en"})
    assert texts(turned)[7] == ("d7", "e7")
    rows[3] = {"translation": {"en": "e"}}
    assert "data.jsonl:4: row 4: `translation.de` is missing" in refusal(load, rows)
    rows[3] = {"translation": "e"}
    assert "row 4: `translation` must contain `en` and `de`" in refusal(load, rows)


def test_columns_names_what_is_not_recognised(load):
    rows = [{"Frage": f"q{i}", "Kontext": "k" if i % 2 else "", "Antwort": f"a{i}"} for i in range(20)]
    mapped = load(rows, columns={"instruction": "Frage", "response": "Antwort", "input": "Kontext"})
    assert texts(mapped)[:2] == [("q0", "a0"), ("q1\nk", "a1")]
    without = load(rows, columns={"instruction": "Frage", "response": "Antwort"})
    assert any("unused columns: `Kontext`" in note for note in without.notes)


def test_an_unknown_layout_says_what_is_there_and_what_to_write(load):
    message = refusal(load, [{"Frage": "q", "n": 1, "Antwort": "a"}] * 20)
    assert "data.jsonl: its columns match no known layout (found: `Frage`, `n`, `Antwort`)" in message
    assert "instruction/response" in message
    assert (
        "  data:\n    columns:\n      instruction: QUESTION_COLUMN\n      response: ANSWER_COLUMN\n"
        in message
    )


def test_two_layouts_that_fit_alike_are_not_chosen_between(load):
    message = refusal(load, [{"prompt": "q", "response": "a", "completion": "b"}] * 3)
    assert "match both prompt/completion and prompt/response" in message
    assert "columns:" in message


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"instruction": "instruction"}, "names instruction but not response"),
        ({"instruction": "q", "response": "response"}, "data.columns.instruction: there is no column `q`"),
        ({"instruction": "response", "response": "response"}, "two roles to one column"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_the_columns_found(load, columns, told):
    message = refusal(load, good_rows(), columns=columns)
    assert told in message
    assert "data.columns" in message


def test_the_layout_is_that_of_most_rows_so_that_a_bad_first_row_is_named(load):
    rows = [{"instruction": "q"}, *good_rows()]
    assert "data.jsonl:1: row 1: `response` is missing" in refusal(load, rows)


def test_an_input_that_first_comes_late_is_still_read(load):
    rows = [{"instruction": f"q{i}", "output": "a"} for i in range(150)]
    rows[140]["input"] = "late"
    assert load(rows).examples[140].source == "q140\nlate"


def test_two_of_several_languages_are_chosen_by_columns_or_refused(load):
    rows = [{"translation": {"en": f"e{i}", "de": f"d{i}", "zh": f"z{i}"}} for i in range(5)]
    message = refusal(load, rows)
    assert "3 languages" in message
    assert "(found: `en`, `de`, `zh`)" in message
    assert "instruction: en\n      response: de\n" in message
    chosen = load(rows, columns={"instruction": "zh", "response": "en"})
    assert texts(chosen)[1] == ("z1", "e1")
    assert "the translations in data.jsonl have no language `fr`" in refusal(
        load, rows, columns={"instruction": "en", "response": "fr"}
    )


def test_languages_that_a_table_leaves_empty_do_not_count(load):
    rows = [{"translation": {"en": f"e{i}", "de": f"d{i}", "fr": None}} for i in range(5)]
    assert texts(load(rows))[0] == ("e0", "d0")


def test_rows_of_different_pairs_of_languages_are_refused(load):
    rows = [{"translation": {"en": "e", ("de", "fr")[i % 2]: "x"}} for i in range(6)]
    assert "3 languages" in refusal(load, rows)


def test_a_table_whose_first_line_may_be_a_row_says_so(tmp_path):
    file = tmp_path / "data.tsv"
    file.write_text("hello\tbonjour\nthanks\tmerci\n", encoding="utf-8")
    message = refusal(read_examples, file, DataSettings(train="data.tsv"), shown_as="data.tsv")
    assert "if its first line is a row, add a line above it that names the columns" in message
