"""Leakage: sources that appear in two files, other than turns of many conversations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from loraloom.data.example import Example
from loraloom.data.splitting.groups import source_key
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message

Part = TypeVar("Part", bound=str)


def without_shared_turns(
    parts: Mapping[Part, Sequence[Example]],
) -> tuple[dict[Part, list[Example]], list[str]]:
    """Remove rows whose source is also a turn of conversations in another part.

    A conversation that begins like others is not a copy of them: only its shared rows are removed.
    One whose rows are all in an earlier part is a copy, and is kept for `refuse_leaks` to report.

    Args:
        parts: rows of each part, the training part first.

    Returns:
        The parts, and a note for each that lost rows.
    """
    kept: dict[Part, list[Example]] = {}
    notes: list[str] = []
    earlier: dict[bytes, bool] = {}  # source -> whether it is a shared turn within its file
    for part, examples in parts.items():
        keys = [source_key(example.source) for example in examples]
        new = {
            (example.path, example.row)
            for key, example in zip(keys, examples, strict=True)
            if key not in earlier
        }
        kept[part] = [
            example
            for key, example in zip(keys, examples, strict=True)
            if key not in earlier
            or not example.turn
            or not (earlier[key] or (example.path, example.row) in new)
        ]
        if not kept[part]:
            kept[part] = list(examples)
        num_left_out = len(examples) - len(kept[part])
        if num_left_out:
            notes.append(
                Message(
                    "{path}: {num_left_out:,} rows are not used for {part}, because their source "
                    "is also a turn of conversations in another part",
                    path=examples[0].path,
                    num_left_out=num_left_out,
                    part=part,
                )
            )
        for key, example in zip(keys, examples, strict=True):
            earlier[key] = earlier.get(key, False) or example.is_shared
    return kept, notes


def refuse_leaks(parts: Mapping[Part, Sequence[Example]]) -> None:
    """Refuse a source that appears in two files, naming each pair of rows.

    Raises:
        DataError: there is such a source.
    """
    known: dict[bytes, Example] = {}
    problems: list[Problem] = []
    for examples in parts.values():
        keys = [source_key(example.source) for example in examples]
        for key, example in zip(keys, examples, strict=True):
            other = known.get(key)
            if other is not None:
                problems.append(
                    Problem(
                        Message(
                            "{named} has the same source as {named_2} of {where}",
                            named=_named(example),
                            named_2=_named(other),
                            where=other.where,
                        ),
                        where=example.where,
                        fix=Message(
                            "Remove one of the two rows, or accept the overlap with `--allow leakage`."
                        ),
                    )
                )
        for key, example in zip(keys, examples, strict=True):
            known.setdefault(key, example)
    if problems:
        raise DataError(problems)


def _named(example: Example) -> str:
    return Message("row {row}", row=example.row) + (
        Message(" (answer {turn})", turn=example.turn) if example.turn else ""
    )
