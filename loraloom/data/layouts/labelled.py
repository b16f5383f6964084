"""Datasets of known tasks (classes, scores, spans) as text-to-text examples.

{"premise": …, "hypothesis": …, "label": …}            ─▶ "premise: …\\nhypothesis: …" to the label
{"sentence1": …, "sentence2": …, "score": 3.8}         ─▶ "sentence1: …\\nsentence2: …" to "3.8"
{"text": …, "label": …}                                ─▶ the text to the label
{"question": …, "context": …, "answers": {"text": […]}} ─▶ "question: …\\ncontext: …" to the first answer

If there are several texts, each is on its own line, after its name, as in T5's training (Raffel et al., 2020,
appendix D).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from loraloom.data.layouts.exchange import (
    MISSING,
    Exchange,
    Field,
    Flaw,
    Layout,
    LayoutOptions,
    Recogniser,
    Values,
)
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.text.message import Message

_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("question", "passage"),
    ("title", "content"),
)
_TEXTS = ("text", "sentence", "content", "review", "comment", "tweet", "utterance")
# If there are a label and its name in words, the name is learnt. The other columns repeat `label`.
_LABELS = ("label_text", "label_name", "gold_label", "label")
_OF_PAIRS = ("score", "similarity_score", "is_duplicate")
_OF_TEXTS = ("sentiment", "category", "intent", "emotion")
# GLUE, SNLI and similar datasets write -1 if a pair has no label. The -1 of a single text may be a class.
_UNLABELLED = (-1, "-1", "-")


def labelled_layout(texts: tuple[str, ...], label: str) -> Layout:
    """Build the layout of rows with one or more texts and a class or score.

    Args:
        texts: required columns; if there are several, each text is preceded by its column's name.
        label: column with the class or score, which is the answer to learn.
    """

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        named = len(texts) > 1
        first, *others = (
            Field(text, values.get(text, MISSING), label=f"{text}: " if named else "") for text in texts
        )
        answer = values.get(label, MISSING)
        if named and label in _LABELS and answer in _UNLABELLED:
            response = Field(f"{label} (-1, not labelled)", None)
        else:
            response = _label(label, answer, options, notes)
        yield Exchange(first, response, tuple(others))

    return Layout("/".join([*texts, label]), (*texts, label), texts, label, exchanges)


def squad_layout() -> Layout:
    """Build the layout of rows with a question, its context and its answers, the first of which is learnt."""

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        yield Exchange(
            Field("question", values.get("question", MISSING), label="question: "),
            _first_answer("answers", values.get("answers", MISSING), notes),
            (Field("context", values.get("context", MISSING), label="context: "),),
        )

    columns = ("question", "context", "answers")
    return Layout("question/context/answers (SQuAD)", columns, columns[:2], "answers", exchanges)


def article_layout() -> Layout:
    """Build the layout of articles in SQuAD's original files: paragraphs, each with questions on its text."""

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        number = 0
        for i, paragraph in enumerate(_objects("paragraphs", values.get("paragraphs"))):
            for j, asked in enumerate(_objects(f"paragraphs[{i}].qas", paragraph.get("qas"))):
                number += 1
                place = f"paragraphs[{i}].qas[{j}]"
                yield Exchange(
                    Field(f"{place}.question", asked.get("question", MISSING), label="question: "),
                    _first_answer(f"{place}.answers", asked.get("answers", MISSING), notes),
                    (
                        Field(
                            f"paragraphs[{i}].context", paragraph.get("context", MISSING), label="context: "
                        ),
                    ),
                    turn=number,
                )

    return Layout(
        Message("paragraphs with questions (SQuAD)"),
        ("paragraphs",),
        ("question", "context"),
        "answers",
        exchanges,
        holes=("question", "context"),
        entry="article",
    )


def _objects(place: str, value: Any) -> Sequence[Mapping[str, object]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Flaw(Message("`{place}` must be a list of objects", place=place))
    return value


def _first_answer(name: str, value: Any, notes: LayoutNotes) -> Field:
    """Return a question's first answer; an empty text if it has no answer, as in SQuAD 2."""
    texts = value.get("text", MISSING) if isinstance(value, dict) else value
    if not isinstance(texts, list):
        return Field(f"{name}.text" if isinstance(value, dict) else name, texts)
    answers = [text["text"] if isinstance(text, dict) and "text" in text else text for text in texts]
    if len({text for text in answers if isinstance(text, str)}) > 1:
        notes.what[Message("questions with several answers (the first one is trained on)")] += 1
    return Field(f"{name}.text[0]", answers[0] if answers else "", number=True)


def _label(name: str, value: Any, options: LayoutOptions, notes: LayoutNotes) -> Field:
    """Return a label as a field, replacing a number with its name if `data.labels` is set.

    Raises:
        Flaw: `data.labels` is set, but has no name for the number.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if options.labels and (is_number or (isinstance(value, str) and value.strip().isdigit())):
        number = int(value) if float(value).is_integer() else -1
        if not 0 <= number < len(options.labels):
            raise Flaw(
                Message("`{name}` is a number for which `data.labels` has no name", name=name),
                Message(
                    "`data.labels` contains {num_labels} names, for numbers from 0 to {last}.",
                    num_labels=len(options.labels),
                    last=len(options.labels) - 1,
                ),
            )
        return Field(name, options.labels[number])
    if options.labels and isinstance(value, str) and value not in options.labels:
        notes.what[Message("labels are already text, which `data.labels` does not change")] += 1
    if is_number and name not in _OF_PAIRS:
        notes.what[
            Message(
                "labels are numbers, trained on as such; `data.labels: [NAME, …]` names them, starting at 0"
            )
        ] += 1
    return Field(name, value, number=True)


def _labelled(texts: tuple[str, ...], labels: tuple[str, ...]) -> Recogniser:
    """Build a recogniser for rows with these texts and exactly one of these labels.

    The columns of `_LABELS`, such as `label` and `label_text`, repeat each other and count as one.
    """
    layouts = {label: labelled_layout(texts, label) for label in labels}

    def recognise(values: Values) -> Layout | None:
        if any(text not in values for text in texts):
            return None
        present = [label for label in labels if label in values]
        in_words = [label for label in present if label in _LABELS]
        meant = in_words[:1] + [label for label in present if label not in _LABELS]
        return layouts[meant[0]] if len(meant) == 1 else None

    return recognise


def _squad(values: Values) -> Layout | None:
    return _SQUAD if {"question", "context", "answers"} <= values.keys() else None


def _article(values: Values) -> Layout | None:
    paragraphs = values.get("paragraphs")
    if not isinstance(paragraphs, list) or not paragraphs or not isinstance(paragraphs[0], dict):
        return None
    return _ARTICLE if "qas" in paragraphs[0] else None


_SQUAD = squad_layout()
_ARTICLE = article_layout()

LABELLED: tuple[Recogniser, ...] = (
    *(_labelled(texts, (*_LABELS, *_OF_PAIRS)) for texts in _PAIRS),
    *(_labelled((text,), (*_LABELS, *_OF_TEXTS)) for text in _TEXTS),
    _squad,
    _article,
)
