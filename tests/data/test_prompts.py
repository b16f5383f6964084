"""Rows to answer: conversations are asked their last question."""

from __future__ import annotations

import pytest
from data_files import refusal, write_lines

from loraloom.data.prompts.prompts import read_prompts
from loraloom.recipe import DataSettings


@pytest.fixture
def prompts(tmp_path):
    def write_and_read(rows, **settings):
        path = write_lines(tmp_path / "p.jsonl", rows)
        read = read_prompts(path, DataSettings(train="x", **settings), shown_as="p.jsonl")
        return [(prompt.source, prompt.response, prompt.row) for prompt in read]

    return write_and_read


def messages(*texts):
    return {
        "messages": [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    }


def test_a_conversation_that_ends_in_a_question_is_that_question_after_its_history(prompts):
    rows = [messages("q1", "a1", "q2", "a2", "q3"), messages("only")]
    assert prompts(rows, conversation_history=True) == [("q1\na1\nq2\na2\nq3", None, 1), ("only", None, 2)]
    assert prompts(rows) == [("q3", None, 1), ("only", None, 2)]


def test_a_conversation_that_ends_in_an_answer_is_asked_each_of_its_questions(prompts):
    assert prompts([messages("q1", "a1", "q2", "a2"), messages("q3")]) == [
        ("q1", "a1", 1),
        ("q2", "a2", 1),
        ("q3", None, 2),
    ]


def test_a_conversation_whose_answers_are_all_context_is_asked_its_last_question(prompts):
    marked = messages("q1", "a1", "q2", "a2")
    for turn in marked["messages"][1::2]:
        turn["weight"] = 0
    assert prompts([marked, messages("q3")], conversation_history=True) == [
        ("q1\na1\nq2", None, 1),
        ("q3", None, 2),
    ]


def test_pairs_may_end_without_an_answer(prompts):
    rows = [
        {"conversation": [{"system": "s", "input": "q1", "output": "a1"}, {"input": "q2"}]},
        {"conversation": [{"input": "q3", "output": ""}]},
        {"conversation": [{"input": "q4"}]},
    ]
    assert prompts(rows, conversation_history=True) == [
        ("s\nq1\na1\nq2", None, 1),
        ("q3", None, 2),
        ("q4", None, 3),
    ]


def test_the_file_may_begin_with_a_question_alone(prompts):
    assert prompts([{"conversation": [{"input": "q"}]}]) == [("q", None, 1)]


def test_a_conversation_without_a_question_is_refused(prompts):
    row = {"messages": [{"role": "system", "content": "s"}]}
    assert "`messages` contains no question" in refusal(prompts, [row])


def test_pairs_of_a_known_task_are_asked_as_in_training(prompts):
    assert prompts([{"premise": "p", "hypothesis": "h"}]) == [("premise: p\nhypothesis: h", None, 1)]
    assert prompts([{"question": "q", "sentence": "s"}]) == [("question: q\nsentence: s", None, 1)]


def test_what_could_be_asked_in_two_ways_is_not_guessed(prompts):
    message = refusal(prompts, [{"question": "q", "context": "c"}])
    assert "its rows have no answer column, so it is unclear which column is the question" in message
    assert prompts([{"question": "q", "context": "c", "answers": None}]) == [
        ("question: q\ncontext: c", None, 1)
    ]
    assert prompts([{"question": "q", "context": "c", "answer": None}]) == [("q\nc", None, 1)]
