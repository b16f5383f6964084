"""How rows are read for a run of LoRALoom 0.1, whose recipe has none of the settings that came later."""

from __future__ import annotations

from loraloom.recipe.legacy import meant_by_run

OLD = {path[1]: value for path, value in meant_by_run({}).items() if path[:1] == ("data",)}


def test_what_an_answer_is_marked_with_makes_no_difference(load):
    turns = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": "a1", "weight": 0, "train": True},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "a2", "loss": False},
    ]
    examples = load([{"messages": turns}], **OLD).examples
    assert [(e.source, e.response, e.turn) for e in examples] == [("q1", "a1", 1), ("q2", "a2", 2)]


def test_an_answer_without_text_is_empty_though_it_calls_a_tool(load):
    turns = [
        {"role": "user", "content": "q1"},
        {"role": "assistant", "content": None, "tool_calls": [{}]},
        {"role": "user", "content": "q2"},
        {"role": "assistant", "content": "a2"},
    ]
    examples = load([{"messages": turns}], on_empty="drop", **OLD).examples
    assert [(e.source, e.response, e.turn) for e in examples] == [("q2", "a2", 2)]


def test_columns_beside_the_question_are_not_used(load):
    row = {"instruction": "q", "output": "a", "system": "s", "history": [["q0", "a0"]]}
    read = load([row], conversation_history=True, **OLD)
    assert [e.source for e in read.examples] == ["q"]
    assert read.layout == "instruction/output"
