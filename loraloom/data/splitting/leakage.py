"""Leakage: sources in the files of two parts, except turns that different conversations have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from loraloom.data.example import Example
from loraloom.data.formats.row import COUNTED_ONLY
from loraloom.data.splitting.groups import source_key
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message

Part = TypeVar("Part", bound=str)


def without_shared_turns(
    parts: Mapping[Part, Sequence[Example]],
) -> tuple[dict[Part, Sequence[Example]], list[str]]:
    """Remove rows of conversations from a part if their sources also appear in an earlier part.

    A conversation that begins like another one is not a copy of it: only the rows that they have in common
    are removed. A conversation whose sources are all in earlier parts is a copy: `refuse_leaks` is to report
    it, so its rows are kept, except those whose source is a turn that many conversations share. If no
    rows of a part would be left, the part is kept unchanged.

    Args:
        parts: rows of each part, the training part first.

    Returns:
        The parts, and a note for each part from which rows were removed.
    """
    from loraloom.data.stored.division import rows_without_shared_turns
    from loraloom.data.stored.example_file import StoredExamples

    stored = {part: rows for part, rows in parts.items() if isinstance(rows, StoredExamples)}
    kept: dict[Part, Sequence[Example]] = {}
    kept.update(rows_without_shared_turns(stored) if stored else _without_shared_turns(parts))
    notes: list[str] = [
        Message(
            "{path}: {num_left_out:,} rows are not used for {part}, because their source "
            "is also a turn of conversations in another part",
            path=parts[part][0].path,
            num_left_out=len(parts[part]) - len(own),
            part=part,
        )
        for part, own in kept.items()
        if len(own) < len(parts[part])
    ]
    return kept, notes


def _without_shared_turns(parts: Mapping[Part, Sequence[Example]]) -> dict[Part, Sequence[Example]]:
    kept: dict[Part, Sequence[Example]] = {}
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
        for key, example in zip(keys, examples, strict=True):
            earlier[key] = earlier.get(key, False) or example.is_shared
    return kept


def refuse_leaks(parts: Mapping[Part, Sequence[Example]]) -> None:
    """Reject data in which two parts have the same source, naming each pair of rows.

    Raises:
        DataError: a source appears in the files of two parts.
    """
    from loraloom.data.stored.division import repeated_sources
    from loraloom.data.stored.example_file import StoredExamples

    stored = [rows for rows in parts.values() if isinstance(rows, StoredExamples)]
    pairs = repeated_sources(stored) if stored else list(_repeats(parts.values()))
    problems = [COUNTED_ONLY if pair is None else _leak(*pair) for pair in pairs]
    if problems:
        raise DataError(problems)


def _repeats(parts: Iterable[Sequence[Example]]) -> Iterator[tuple[Example, Example]]:
    """Yield each example whose source is in an earlier part, with the first earlier example that has it."""
    known: dict[bytes, Example] = {}
    for examples in parts:
        keys = [source_key(example.source) for example in examples]
        for key, example in zip(keys, examples, strict=True):
            if (other := known.get(key)) is not None:
                yield example, other
        for key, example in zip(keys, examples, strict=True):
            known.setdefault(key, example)


def _leak(example: Example, other: Example) -> Problem:
    return Problem(
        Message(
            "{named} has the same source as {named_2} of {where}",
            named=_named(example),
            named_2=_named(other),
            where=other.where,
        ),
        where=example.where,
        fix=Message("Remove one of the two rows, or accept the overlap with `--allow leakage`."),
    )


def _named(example: Example) -> str:
    return Message("row {row}", row=example.row) + (
        Message(" (answer {turn})", turn=example.turn) if example.turn else ""
    )
