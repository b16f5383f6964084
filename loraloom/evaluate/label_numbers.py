"""Detection of labels that are numbers in known answers but names in a model's answers, or the reverse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from loraloom.text.message import Message, joined

_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d+\s*")


def describe_label_mismatch(references: Sequence[str], answers: Mapping[str, Sequence[str]]) -> str:
    """Return a warning about models whose labels cannot match the known answers; "" if all labels can.

    A data file may store class numbers although the adapter was trained on class names: every figure is then
    near 0, however good the answers are.

    Args:
        references: known answers.
        answers: answers of each adapter to the same rows; without the base, which has seen no labels.
    """
    mixed: list[str] = []
    for model, texts in answers.items():
        if not texts or not references:
            continue
        if _all_numbers(references) and not any(map(_WHOLE_NUMBER.fullmatch, texts)):
            mixed.append(
                Message(
                    "every known answer is a whole number, but {model} never answers with one", model=model
                )
            )
        elif _all_numbers(texts) and not any(map(_WHOLE_NUMBER.fullmatch, references)):
            mixed.append(
                Message("{model} answers only with whole numbers, but no known answer is one", model=model)
            )
    if not mixed:
        return ""
    remedy = Message(
        "if these are labels, write them as in the adapter's training (`data.labels` maps numbers to names)"
    )
    return Message(
        "{mixed}: the figures say nothing about its answers; {remedy}",
        mixed=joined("; ", mixed),
        remedy=remedy,
    )


def _all_numbers(texts: Sequence[str]) -> bool:
    return all(map(_WHOLE_NUMBER.fullmatch, texts))
