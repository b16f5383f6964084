"""Data sets of known tasks: the exact source and response that each row becomes."""

from __future__ import annotations

import pytest
from data_files import refusal


def pairs(examples):
    return [(example.source, example.response) for example in examples.examples]


@pytest.mark.parametrize(
    ("row", "source", "response"),
    [
        ({"premise": "p", "hypothesis": "h", "label": "neutral"}, "premise: p\nhypothesis: h", "neutral"),
        ({"sentence1": "a", "sentence2": "b", "score": 3.8}, "sentence1: a\nsentence2: b", "3.8"),
        ({"sentence1": "a", "sentence2": "b", "label": 1, "idx": 7}, "sentence1: a\nsentence2: b", "1"),
        ({"sentence1": "a", "sentence2": "b", "gold_label": "c"}, "sentence1: a\nsentence2: b", "c"),
        ({"question": "q", "sentence": "s", "label": "yes"}, "question: q\nsentence: s", "yes"),
        (
            {"question1": "a", "question2": "b", "is_duplicate": False},
            "question1: a\nquestion2: b",
            "false",
        ),
        ({"title": "t", "content": "c", "label": "x"}, "title: t\ncontent: c", "x"),
        ({"text": "good film", "label": "positive"}, "good film", "positive"),
        ({"text": "good film", "label": 1, "label_text": "positive"}, "good film", "positive"),
        ({"sentence": "s", "sentiment": "bad"}, "s", "bad"),
        (
            {
                "id": "1",
                "title": "t",
                "context": "c",
                "question": "q",
                "answers": {"text": ["a", "b"], "answer_start": [0, 3]},
            },
            "question: q\ncontext: c",
            "a",
        ),
        ({"context": "c", "question": "q", "answers": [{"text": "a"}]}, "question: q\ncontext: c", "a"),
        ({"context": "c", "question": "q", "answers": ["a"]}, "question: q\ncontext: c", "a"),
    ],
)
def test_a_known_task_becomes_text_to_text(load, row, source, response):
    assert pairs(load([row] * 3)) == [(source, response)] * 3


def test_classes_that_are_numbers_get_the_names_that_the_recipe_gives(load):
    rows = [{"premise": "p", "hypothesis": f"h{i}", "label": i % 3} for i in range(6)]
    names = ["entailment", "neutral", "contradiction"]
    assert [response for _, response in pairs(load(rows, labels=names))] == names * 2
    as_text = [row | {"label": str(row["label"])} for row in rows]
    assert pairs(load(as_text, labels=names)) == pairs(load(rows, labels=names))
    unnamed = load(rows)
    assert [response for _, response in pairs(unnamed)] == ["0", "1", "2"] * 2
    assert any("6 labels are numbers, trained on as such" in note for note in unnamed.notes)
    assert "row 3: `label` is a number for which `data.labels` has no name" in refusal(
        load, rows, labels=names[:2]
    )


def test_names_for_classes_that_have_other_names_already_are_told_to_be_unused(load):
    rows = [{"text": f"t{i}", "label": ("neg", "pos")[i % 2]} for i in range(6)]
    examples = load(rows, labels=["negative", "positive"])
    assert [response for _, response in pairs(examples)] == ["neg", "pos"] * 3
    assert any("6 labels are already text" in note for note in examples.notes)


def test_a_pair_without_its_label_is_empty_and_a_single_texts_minus_one_is_a_class(load):
    rows = [{"premise": "p", "hypothesis": f"h{i}", "label": (i, -1)[i == 2]} for i in range(4)]
    assert "row 3: `label (-1, not labelled)` is null" in refusal(load, rows)
    assert len(load(rows, on_empty="drop").examples) == 3
    assert pairs(load([{"text": "t", "label": -1}])) == [("t", "-1")]


def test_each_text_of_a_pair_must_be_there(load):
    rows = [
        {"premise": "p", "hypothesis": "h", "label": "a"},
        {"premise": "p", "hypothesis": " ", "label": "a"},
    ]
    assert "row 2: `hypothesis` is blank" in refusal(load, rows).replace("empty", "blank")


def test_a_question_that_cannot_be_answered_is_empty(load):
    rows = [
        {"context": "c", "question": f"q{i}", "answers": {"text": ["a"][: i % 2], "answer_start": []}}
        for i in range(4)
    ]
    assert "row 1: `answers.text[0]` is empty" in refusal(load, rows)
    assert len(load(rows, on_empty="drop").examples) == 2


def test_an_article_of_squads_own_files_gives_a_row_for_each_question(load):
    article = {
        "title": "t",
        "paragraphs": [
            {
                "context": "c0",
                "qas": [
                    {"id": 1, "question": "q0", "answers": [{"text": "a0", "answer_start": 1}]},
                    {"id": 2, "question": "q1", "answers": [{"text": "a1", "answer_start": 1}]},
                ],
            },
            {"context": "c1", "qas": [{"id": 3, "question": "q2", "answers": [{"text": "a2"}]}]},
        ],
    }
    examples = load([article])
    assert pairs(examples) == [
        ("question: q0\ncontext: c0", "a0"),
        ("question: q1\ncontext: c0", "a1"),
        ("question: q2\ncontext: c1", "a2"),
    ]
    assert [example.id[1:] for example in examples.examples] == [(1, 1), (1, 2), (1, 3)]
    assert any("1 article gives 3 rows" in note for note in examples.notes)


def test_a_pair_of_question_and_answer_comes_before_a_label(load):
    assert pairs(load([{"text": "t", "summary": "s", "label": 1}])) == [("t", "s")]


@pytest.mark.parametrize(
    "row",
    [
        {"id": "1", "title": "t"},
        {"sentence1": "a", "sentence2": "b"},
        {"id": "1", "text": "t"},
        {"url": "u", "date": "d"},
        {"sentence1": "a", "sentence2": "b", "label": 1, "score": 0.3},
        {"text": "t", "sentence": "s", "label": 1},
    ],
)
def test_what_is_not_recognised_is_never_guessed(load, row):
    message = refusal(load, [row] * 5)
    assert "match no known layout" in message or "match both" in message
    assert all(f"`{name}`" in message for name in row)
