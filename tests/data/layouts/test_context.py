"""Columns beside a question that are its context."""

from __future__ import annotations

import json

import pytest
from data_files import refusal, write_lines

from loraloom.data.prompts.prompts import read_prompts
from loraloom.recipe import DataSettings

ROW = {
    "instruction": "and then?",
    "input": "",
    "output": "a2",
    "system": "be kind",
    "history": [["q0", "a0"], ["q1", "a1"]],
}
SOURCE = "be kind\nq0\na0\nq1\na1\nand then?"


def sources(examples):
    return [example.source for example in examples.examples]


def test_system_and_history_of_alpaca_files_stand_before_the_question(load):
    examples = load([ROW, ROW | {"history": [], "system": None}, ROW | {"history": None, "system": ""}])
    assert sources(examples) == [SOURCE, "and then?", "and then?"]
    assert examples.layout == "instruction/input/output with system and history"
    assert not any("unused" in note for note in examples.notes)


@pytest.mark.parametrize(
    "history",
    [
        [{"role": "user", "content": "q0"}, {"role": "assistant", "content": "a0"}],
        [{"query": "q0", "response": "a0"}],
        json.dumps([["q0", "a0"]]),
        "q0\na0",
    ],
)
def test_a_history_may_be_written_in_other_ways(load, history):
    assert sources(load([ROW | {"history": history}])) == ["be kind\nq0\na0\nand then?"]


def test_a_history_of_another_shape_is_refused_with_the_way_out(load):
    message = refusal(load, [ROW | {"history": {"a": 1}}])
    assert "row 1: `history` must be a list of [question, answer] pairs" in message
    assert "data.context_columns: false" in message


def test_they_are_left_alone_when_the_recipe_says_so_or_names_other_columns(load):
    examples = load([ROW], context_columns=False)
    assert sources(examples) == ["and then?"]
    assert any("unused columns: `history`, `system`" in note for note in examples.notes)
    columns = {"instruction": "instruction", "response": "output"}
    assert sources(load([ROW], columns=columns)) == ["and then?"]


def test_columns_may_name_them(load):
    row = {"q": "and?", "a": "x", "role_text": "be kind", "before": [["q0", "a0"]]}
    columns = {"instruction": "q", "response": "a", "system": "role_text", "history": "before"}
    assert sources(load([row], columns=columns)) == ["be kind\nq0\na0\nand?"]
    assert "no column `befor`" in refusal(load, [row], columns=columns | {"history": "befor"})


def test_a_template_may_name_them(load):
    examples = load([ROW], source_prefix="<{system}> {history} | {instruction}")
    assert sources(examples) == ["<be kind> q0\na0\nq1\na1 | and then?"]
    left_out = load([ROW], source_prefix="{instruction}")
    assert any("unused columns: `history`, `input`, `system`" in note for note in left_out.notes) or any(
        "`history`, `system`" in note for note in left_out.notes
    )


def test_a_system_column_beside_a_conversation_is_its_system_text(load):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    assert sources(load([{"system": "be kind", "conversations": turns}])) == ["be kind\nq"]
    own = [{"from": "system", "value": "own"}, *turns]
    assert sources(load([{"system": "be kind", "conversations": own}])) == ["own\nq"]


def test_rows_to_answer_have_their_context_too(tmp_path):
    row = {key: value for key, value in ROW.items() if key != "output"}
    path = write_lines(tmp_path / "a.jsonl", [row])
    prompts = read_prompts(path, DataSettings(train="x"), shown_as="a.jsonl")
    assert [(prompt.source, prompt.response) for prompt in prompts] == [(SOURCE, None)]
