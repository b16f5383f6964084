"""Rows to examples: what is refused, dropped, counted, and what is never altered."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest
from data_files import good_rows, refusal, write_lines
from hypothesis import given
from hypothesis import strategies as st

from loraloom.data.examples import read_examples
from loraloom.data.splitting.groups import source_key
from loraloom.recipe import DataSettings


def with_bad(*bad):
    rows = good_rows()
    rows[10:10] = bad
    return rows


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"instruction": "q", "response": None}, "`response` is null"),
        ({"instruction": None, "response": "a"}, "`instruction` is null"),
        ({"instruction": "q", "response": float("nan")}, "`response` is nan"),
        ({"instruction": "q", "response": float("-inf")}, "`response` is -inf"),
        ({"instruction": "q"}, "`response` is missing"),
        ({"instruction": "q", "response": {"text": "a"}}, "`response` must be text, but is an object"),
        ({"instruction": "q", "response": ["a"]}, "`response` must be text, but is a list"),
        ({"instruction": "q", "response": True}, "`response` must be text, but is true or false"),
        ({"instruction": "q", "response": 3}, "`response` must be text, but is a number"),
        ({"instruction": "q", "response": int("1" * 400)}, "`response` must be text, but is a number"),
        ({"instruction": "q", "response": ""}, "`response` is empty"),
        ({"instruction": "q", "response": " \n\u3000"}, "`response` is blank"),
        ({"instruction": "", "response": "a"}, "`instruction` is empty"),
        (
            {"instruction": "q\ud800", "response": "a"},
            "`instruction` contains an unpaired surrogate (U+D800)",
        ),
        ({"instruction": "q\0", "response": "a"}, "`instruction` contains NUL (U+0000)"),
        ({"instruction": "q\x1b", "response": "a"}, "`instruction` contains a control character (U+001B)"),
    ],
)
def test_what_is_not_text_is_refused_with_line_row_and_field(load, bad, told):
    message = refusal(load, with_bad(bad))
    assert f"data.jsonl:11: row 11: {told}" in message
    assert "problems in all" not in message


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        (["a", "b"], "Write one row for each element, or choose one in `data.columns`: `response[0]`."),
        ({"text": "a"}, "In `data.columns`, give the path to a value inside this object: `response.KEY`."),
        (["a", {"b": 1}], "Write one row for each"),
    ],
)
def test_a_column_that_holds_more_than_a_text_is_refused_with_the_way_to_what_is_inside(load, value, fix):
    assert fix in refusal(load, [{"instruction": "q", "response": value}] * 3)


def test_all_problems_of_reading_and_of_content_come_at_once_in_file_order(tmp_path):
    lines = [json.dumps(row) for row in with_bad({"instruction": "q"}, {"instruction": 1, "response": None})]
    lines[3:3] = ["{"]
    lines += ["{"]
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    settings = DataSettings(train="data.jsonl")
    message = refusal(read_examples, tmp_path / "data.jsonl", settings, shown_as="data.jsonl")
    found = [line.split(": ")[0] for line in message.splitlines()[:-1]]
    assert found == ["data.jsonl:4:2", "data.jsonl:12", "data.jsonl:13", "data.jsonl:13", "data.jsonl:24:2"]
    assert "5 problems in all" in message


def test_numbers_are_text_when_the_recipe_says_so(load):
    rows = with_bad({"instruction": 12, "response": 1.5}, {"instruction": "q", "response": int("7" * 400)})
    assert "data.stringify: true" in refusal(load, rows)
    examples = load(rows, stringify=True).examples
    assert (examples[10].source, examples[10].response) == ("12", "1.5")
    assert examples[11].response == "7" * 400
    for never in (None, float("nan"), [1]):
        assert "row 11" in refusal(load, with_bad({"instruction": "q", "response": never}), stringify=True)


def test_empty_rows_are_dropped_when_the_recipe_says_so_and_counted(load):
    bad = [{"instruction": "q", "response": value} for value in ("", "  ", None)]
    assert "data.on_empty: drop" in refusal(load, with_bad(*bad))
    examples = load(with_bad(*bad), on_empty="drop")
    assert examples.dropped == 3
    assert len(examples.examples) == 20
    assert examples.examples[10].row == 14
    assert any("3 empty rows dropped" in note for note in examples.notes)
    assert "no rows are left: 3 were empty" in refusal(load, bad, on_empty="drop")
    assert "`response` is missing" in refusal(load, with_bad({"instruction": "q"}), on_empty="drop")


def test_nan_null_and_odd_characters_in_columns_not_used_do_no_harm(load):
    rows = [{**row, "score": float("nan"), "tag": None, "raw": "\0\ud800"} for row in good_rows()]
    notes = load(rows).notes
    assert sum("unused columns: `raw`, `score`, `tag`" in note for note in notes) == 1


def test_training_text_is_not_altered(load):
    text = " e\u0301 ﬁ Ａ\u2028\u200f عربي 漢汉 👩‍👩‍👧 \t\n "
    example = load([{"instruction": text, "response": text}] * 2).examples[0]
    assert (example.source, example.response) == (text, text)


def test_sources_that_a_t5_tokenizer_cannot_tell_apart_are_one_group(load):
    rows = [{"instruction": text, "response": "a"} for text in ("Ａ b", "A  b\n", "a b", "A b?")]
    groups = [example.group for example in load(rows).examples]
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3


@given(st.text(), st.text())
def test_a_source_key_ignores_white_space_around_and_between(left, right):
    assert source_key(f"{left} {right}") == source_key(f"  {left}\n\t{right} ")


def test_the_hash_is_of_the_bytes(load, tmp_path):
    examples = load(good_rows())
    assert examples.sha256 == hashlib.sha256((tmp_path / "data.jsonl").read_bytes()).hexdigest()


def test_a_hub_dataset_is_hashed_by_its_rows(monkeypatch):
    import types

    def hash_of(rows):
        module = types.ModuleType("datasets")
        module.load_dataset = lambda *args, **kwargs: rows
        monkeypatch.setitem(sys.modules, "datasets", module)
        return read_examples(None, DataSettings(train="hub:a/b"), shown_as="hub:a/b").sha256

    assert hash_of(good_rows()) == hash_of(good_rows())
    assert hash_of(good_rows()) != hash_of(good_rows(19))


@pytest.mark.parametrize("prefix", ["translate: ", "{{ ", "ask: "])
def test_a_prefix_stands_before_every_source(load, prefix):
    examples = load(good_rows(), source_prefix=prefix).examples
    assert examples[0].source == prefix.replace("{{", "{") + "问题 1"


def test_a_template_replaces_the_source(load):
    rows = [{**row, "lang": "de"} for row in good_rows()]
    examples = load(rows, source_prefix="to {lang}: {instruction} {{x}}")
    assert examples.examples[0].source == "to de: 问题 1 {x}"
    assert not any("unused" in note for note in examples.notes)
    unused = load(rows, source_prefix="to {lang}")
    assert any("template without `instruction`" in note for note in unused.notes)


@pytest.mark.parametrize(
    ("prefix", "told"),
    [
        ("{instructoin}", "there is no column `instructoin`. Allowed: `instruction`"),
        ("{response}", "the answer, into the source"),
        ("a { b", "contains a single `{`"),
        ("a } b", "contains a single `}`"),
        ("{}", "there is no column ``"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_by_its_key(load, prefix, told):
    message = refusal(load, good_rows(), source_prefix=prefix)
    assert message.startswith("data.source_prefix: ")
    assert told in message


def test_a_templates_empty_question_is_empty_whatever_stands_beside_it(load):
    rows = [{**row, "lang": "de"} for row in with_bad({"instruction": " ", "response": "a"})]
    assert "row 11: `instruction` is" in refusal(load, rows, source_prefix="{lang}: {instruction}")
    rows = [{**row, "lang": "de"} for row in good_rows()]
    del rows[10]["lang"]
    assert "row 11: `lang` is missing" in refusal(load, rows, source_prefix="{lang}: {instruction}")


def test_parquet_nulls_in_the_input_are_nothing(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {"instruction": "q", "input": None, "output": "a"},
        {"instruction": "p", "input": "i", "output": None},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows[:1]), tmp_path / "a.parquet")
    settings = DataSettings(train="a.parquet")
    assert read_examples(tmp_path / "a.parquet", settings, shown_as="a.parquet").examples[0].source == "q"
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    message = refusal(read_examples, tmp_path / "a.parquet", settings, shown_as="a.parquet")
    assert "a.parquet: row 2: `output` is null" in message


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("counselling_real.json", "instruction/response"),
        ("alpaca_zh_real.json", "instruction/input/output"),
    ],
)
def test_the_real_data_is_read_whole(shared_data, name, layout):
    examples = read_examples(shared_data / name, DataSettings(train=name), shown_as=name)
    rows = json.loads((shared_data / name).read_text())
    assert len(examples.examples) == 1_000
    assert examples.layout == layout
    answer = layout.rsplit("/", 1)[1]
    for example, row in zip(examples.examples, rows, strict=True):
        assert example.response == row[answer]
        assert example.source == row["instruction"] + ("\n" + row["input"] if row.get("input") else "")


def test_half_a_surrogate_in_a_columns_name_can_be_told(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"\ud800\x1b": "q", "b": "a"}])
    message = refusal(read_examples, tmp_path / "a.jsonl", DataSettings(train="a"), shown_as="a.jsonl")
    message.encode()
    assert r"\ud800\x1b" in message
