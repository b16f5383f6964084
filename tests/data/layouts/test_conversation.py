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
    assert any("2 answers without a question" in note for note in examples.notes)
    assert any("2 questions without an answer at the end" in note for note in examples.notes)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"messages": []}, "`messages` must be a list with at least one turn"),
        ({"messages": "text"}, "`messages` must be a list with at least one turn"),
        ({"other": 1}, "`messages` must be a list with at least one turn"),
        ({"messages": ["text"]}, "`messages[0]` must be an object"),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "`messages[0].role` is `tool`, which is not a known role",
        ),
        (said("messages", "q"), "`messages` contains no question with an answer"),
        (said("messages", "q", None), "`messages[1].content` is null"),
        (said("messages", "q", ["parts"]), "`messages[1].content` must be text, but is a list"),
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


def turns(*entries):
    """A row of messages: (role, content) or (role, content, further keys)."""
    return {
        "messages": [
            {"role": role, "content": content} | (more[0] if more else {}) for role, content, *more in entries
        ]
    }


def sources_and_responses(examples):
    return [(example.source, example.response) for example in examples.examples]


@pytest.mark.parametrize(
    "mark",
    [{"weight": 0}, {"loss": False}, {"train": False}, {"training": False}, {"weight": 0.0, "loss": False}],
)
def test_an_answer_marked_so_is_context_and_no_target(load, mark):
    row = turns(("user", "q1"), ("assistant", "a1", mark), ("user", "q2"), ("assistant", "a2", {"weight": 1}))
    examples = load([row], conversation_history=True)
    assert sources_and_responses(examples) == [("q1\na1\nq2", "a2")]
    assert examples.examples[0].turn == 2
    assert any("1 answers marked as context" in note for note in examples.notes)
    every = load([row], answer_weights=False)
    assert [response for _, response in sources_and_responses(every)] == ["a1", "a2"]


def test_a_file_whose_answers_are_all_context_is_refused_with_the_reason(load):
    row = turns(("user", "q1"), ("assistant", "a1", {"weight": 0}))
    message = refusal(load, [row] * 3)
    assert "contains no answer to train on: 3 answers marked as context" in message
    assert "`data.answer_weights: false`" in message


def test_a_mark_of_a_pair_counts_too(load):
    row = paired(("q1", "a1"), ("q2", "a2"))
    row["conversation"][0]["output_with_loss"] = False
    assert [e.response for e in load([row]).examples] == ["a2"]


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (
            {"weight": 0, "train": True},
            "`messages[1]` contains contradictory marks `weight: false` and `train: true`",
        ),
        ({"weight": 0.5}, "`messages[1].weight` must be 0 or 1"),
        ({"loss": "no"}, "`messages[1].loss` must be 0 or 1"),
    ],
)
def test_a_mark_that_is_unclear_is_refused(load, mark, told):
    row = turns(("user", "q"), ("assistant", "a", mark))
    assert f"data.jsonl:1: row 1: {told}" in refusal(load, [row])


def test_keys_inside_turns_that_are_not_used_are_counted(load):
    row = turns(
        ("user", "q", {"images": ["x.png"], "name": None}),
        ("assistant", "a", {"reasoning_content": "because", "weight": 1, "tool_calls": []}),
    )
    notes = load([row] * 3).notes
    unused = "unused keys inside turns, each with its number of turns: `images` (3), `reasoning_content` (3)"
    assert f"data.jsonl: {unused}" in notes


def test_an_answer_that_only_calls_a_tool_leaves_the_question_open(load):
    call = {"tool_calls": [{"function": {"name": "weather"}}]}
    row = turns(("user", "q"), ("assistant", None, call), ("tool", "22 C"), ("assistant", "warm"))
    read = load([row] * 2, roles={"user": ["tool"]})
    assert sources_and_responses(read) == [("q\n22 C", "warm")] * 2
    assert any("2 answers without text that call a tool (not trained on)" in note for note in read.notes)
    assert sources_and_responses(load([row], roles={"ignored": ["tool"]})) == [("q", "warm")]


def test_content_in_typed_parts_is_its_text(load):
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {}},
        {"type": "text", "text": "?"},
    ]
    examples = load([turns(("user", parts), ("assistant", [{"type": "text", "text": "a"}]))])
    assert sources_and_responses(examples) == [("see\n?", "a")]
    assert any("1 parts of turns that are not text" in note for note in examples.notes)
    only_image = turns(("user", parts[1:2]), ("assistant", "a"))
    assert "`messages[0].content` is empty" in refusal(load, [only_image])


@pytest.mark.parametrize(
    ("user", "assistant"),
    [("Human", "chatgpt"), ("USER", "Assistant"), ("human", "bing"), ("prompter", "GPT"), ("用户", "助手")],
)
def test_usual_names_of_roles_are_known_in_any_case(load, user, assistant):
    assert sources_and_responses(load([turns((user, "q"), (assistant, "a"))])) == [("q", "a")]


def test_unknown_roles_are_all_named_once_with_the_lines_to_write(load):
    rows = [turns(("user", f"q{i}"), ("observation", "x"), ("Sage", "a")) for i in range(30)]
    message = refusal(load, rows)
    assert "row 1: `messages[1].role` is `observation`, which is not a known role (in 30 rows)" in message
    assert "row 1: `messages[2].role` is `Sage`, which is not a known role (in 30 rows)" in message
    assert 'roles: {user: ["observation", "Sage"]}' in message
    assert message.count("not a known role") == 2
    mapped = load(rows, roles={"ignored": ["observation"], "assistant": ["sage"]})
    assert sources_and_responses(mapped)[0] == ("q0", "a")
    assert any("30 turns of roles that `data.roles` ignores" in note for note in mapped.notes)


def test_a_role_that_may_be_a_rows_text_is_not_shown(load):
    message = refusal(load, [turns(("user", "q"), ("I told nobody, but my name is Anna!", "a"))])
    assert "Anna" not in message
    assert "a text of 35 characters" in message


@pytest.mark.parametrize(
    "keys", [("role", "value"), ("from", "content"), ("speaker", "text")], ids=lambda keys: "/".join(keys)
)
def test_other_ways_to_write_turns(load, keys):
    who, what = keys
    row = {"messages": [{who: "user", what: "q"}, {who: "assistant", what: "a"}]}
    assert sources_and_responses(load([row])) == [("q", "a")]


def test_the_rows_and_the_conversations_are_both_counted(load):
    notes = load([said("messages", f"q{i}", "a", f"r{i}", "b") for i in range(10)]).notes
    assert "data.jsonl: 10 conversations give 20 rows, one for each answer to train on" in notes


def test_a_conversation_in_a_column_of_another_name_is_found(load):
    entries = said("messages", "q", "a")["messages"]
    examples = load([{"id": 1, "dialog_turns": entries}] * 3)
    assert sources_and_responses(examples)[0] == ("q", "a")
    two = refusal(load, [{"chosen": entries, "rejected": entries}] * 3)
    assert "(found: `chosen`, `rejected`)" in two
