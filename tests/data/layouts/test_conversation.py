"""Conversations: each answer is an example, and its turns stay together."""

from __future__ import annotations

import pytest
from data_files import refusal

SHAPES = {
    "messages": ("role", "content", "user", "assistant"),
    "conversations": ("from", "value", "human", "gpt"),
}


def said(column, *turns, system=None):
    """A row of a conversation: texts in turn by user and assistant."""
    who, what, user, assistant = SHAPES[column]
    entries = [{who: "system", what: system}] if system else []
    entries += [{who: (user, assistant)[i % 2], what: text} for i, text in enumerate(turns)]
    return {column: entries}


def paired(*turns, system="s"):
    entries = [{"input": q, "output": a} for q, a in turns]
    entries[0] = {"system": system, **entries[0]}
    return {"conversation": entries}


CONVERSATIONS = [
    said("messages", "q1", "a1", "q2", "a2", system="s"),
    said("conversations", "q1", "a1", "q2", "a2", system="s"),
    paired(("q1", "a1"), ("q2", "a2")),
]


@pytest.mark.parametrize("row", CONVERSATIONS, ids=["messages", "conversations", "conversation"])
def test_each_answer_is_an_example_with_the_system_text_in_front(load, row):
    examples = load([row] * 3).examples[:2]
    assert [(e.source, e.response, e.row, e.turn) for e in examples] == [
        ("s\nq1", "a1", 1, 1),
        ("s\nq2", "a2", 1, 2),
    ]
    assert examples[0].id == ("data.jsonl", 1, 1)


@pytest.mark.parametrize("row", CONVERSATIONS, ids=["messages", "conversations", "conversation"])
def test_history_puts_the_earlier_turns_between(load, row):
    examples = load([row], conversation_history=True).examples
    assert [e.source for e in examples] == ["s\nq1", "s\nq1\na1\nq2"]


@pytest.mark.parametrize("row", CONVERSATIONS, ids=["messages", "conversations", "conversation"])
def test_a_template_may_name_system_history_and_input(load, row):
    examples = load([row], source_prefix="[{system}] {history} -> {input}:").examples
    assert [e.source for e in examples] == ["[s]  -> q1:", "[s] q1\na1 -> q2:"]
    assert "Allowed: `system`, `history`, `input`" in refusal(load, [row], source_prefix="{messages}")


def test_two_questions_before_an_answer_are_one(load):
    row = said("messages", "q1", "a1")
    row["messages"].insert(0, {"role": "user", "content": "hello"})
    assert load([row]).examples[0].source == "hello\nq1"


def test_what_has_no_counterpart_is_counted(load):
    greeting = {
        "messages": [{"role": "assistant", "content": "hi"}, *said("messages", "q", "a", "late")["messages"]]
    }
    examples = load([greeting] * 2)
    assert [e.source for e in examples.examples] == ["q", "q"]
    assert any("2 answers with no question" in note for note in examples.notes)
    assert any("2 questions at the end" in note for note in examples.notes)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"messages": []}, "`messages` should be a list of turns"),
        ({"messages": "text"}, "`messages` should be a list of turns"),
        ({"other": 1}, "`messages` should be a list of turns"),
        ({"messages": ["text"]}, "`messages[0]` should be an object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "`messages[0].role` is `tool`, a role not known"),
        (said("messages", "q"), "`messages` holds no question that is answered"),
        (said("messages", "q", None), "`messages[1].content` is null"),
        (said("messages", "q", ["parts"]), "`messages[1].content` is a list where text is needed"),
        (
            {"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]},
            "`messages[0].content` is missing",
        ),
        (said("messages", "q", " "), "`messages[1].content` is blank"),
    ],
)
def test_a_bad_conversation_is_refused_with_its_line_and_place(load, bad, told):
    rows = [said("messages", f"q{i}", "a") for i in range(20)]
    rows.insert(10, bad)
    message = refusal(load, rows)
    assert "data.jsonl:11: row 11: " in message
    assert told in message


def test_turns_of_one_conversation_and_rows_that_share_a_source_are_one_group(load):
    rows = [paired(("q1", "a"), ("q2", "b")), paired(("q3", "a")), paired(("q4", "c"), ("q2", "d"))]
    groups = [example.group for example in load(rows).examples]
    assert groups[0] == groups[1] == groups[3] == groups[4]
    assert groups[2] != groups[0]


def test_the_real_conversations_are_read(shared_data):
    from loraloom.data.examples import read_examples
    from loraloom.recipe import DataSettings

    path = shared_data / "conversations_real.json"
    examples = read_examples(path, DataSettings(train=path.name), shown_as=path.name)
    assert len({example.row for example in examples.examples}) == 200
    assert len(examples.examples) == 636
    assert all(2 <= sum(e.row == row for e in examples.examples) <= 5 for row in range(1, 201))
