"""What is marked in an answer: every difference, no confetti, and never another text than the answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraloom.report.answer_differences import mark_difference

TEXTS = st.text(alphabet="的是不了 ab，。\n", max_size=40)


@given(base=TEXTS, answer=TEXTS)
def test_pieces_make_up_the_answer(base: str, answer: str) -> None:
    pieces = mark_difference(base, answer).pieces
    assert not pieces or "".join(text for text, _ in pieces) == answer


@given(base=TEXTS, answer=TEXTS)
def test_where_texts_differ_something_is_marked(base: str, answer: str) -> None:
    pieces = mark_difference(base, answer).pieces
    assert not pieces or any(differs for _, differs in pieces) == (base != answer)


@pytest.mark.parametrize(
    ("base", "answer", "marked"),
    [
        ("先试着睡觉。", "先试着和朋友睡觉。", ["和朋友"]),
        ("talk to a friend", "talk to my friend", ["my"]),
        ("先试着睡觉，再说。", "先试着睡觉，", [""]),
    ],
)
def test_what_is_new_is_marked(base: str, answer: str, marked: list[str]) -> None:
    assert [text for text, differs in mark_difference(base, answer).pieces if differs] == marked


def test_answers_with_little_in_common_are_not_marked() -> None:
    assert not mark_difference("休息", "说到心里的无助，先别急着怪。").pieces


def test_long_answers_are_compared_by_clause() -> None:
    clauses = [f"这是第{number}句话，" for number in range(200)]
    changed = [*clauses[:100], "这里不同，", *clauses[101:]]
    differing = [
        text for text, differs in mark_difference("".join(clauses), "".join(changed)).pieces if differs
    ]
    assert differing == ["这里不同，"]


@pytest.mark.parametrize("answer", ["的了" * 2000, "的" * 2000 + "了" + "的" * 1999, "W" * 4000])
def test_answers_stuck_in_a_loop_are_compared_at_once(answer: str) -> None:
    started = time.process_time()
    pieces = mark_difference("的" * 4000, answer).pieces
    assert time.process_time() - started < 0.5
    assert not pieces or "".join(text for text, _ in pieces) == answer
