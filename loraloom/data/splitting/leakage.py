"""Leakage: sources that appear in two files, other than turns of many conversations."""

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
    """Remove rows whose source is also a turn of conversations in another part.

    A conversation that begins like others is not a copy of them: only its shared rows are removed.
    One whose rows are all in an earlier part is a copy, and is kept for `refuse_leaks` to report.

    Args:
        parts: rows of each part, the training part first.

    Returns:
        The parts, and a note for each that lost rows.
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
    """Refuse a source that appears in two files, naming each pair of rows.

    Raises:
        DataError: a source appears in two files.
    """
    from loraloom.data.stored.division import repeated_sources
    from loraloom.data.stored.example_file import StoredExamples

    stored = [rows for rows in parts.values() if isinstance(rows, StoredExamples)]
    pairs = repeated_sources(stored) if stored else list(_repeats(parts.values()))
    problems = [COUNTED_ONLY if pair is None else _leak(*pair) for pair in pairs]
    if problems:
        raise DataError(problems)


def _repeats(parts: Iterable[Sequence[Example]]) -> Iterator[tuple[Example, Example]]:
    """Yield each example whose source appears in an earlier part, and the first example there that has it."""
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
