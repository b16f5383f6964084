"""Sources that stand in two files of a recipe: refused, but for turns that many conversations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from loraloom.data.examples import Example
from loraloom.data.splitting.groups import source_key
from loraloom.errors import DataError, Problem

Part = TypeVar("Part", bound=str)


def without_shared_turns(
    parts: Mapping[Part, Sequence[Example]],
) -> tuple[dict[Part, list[Example]], list[str]]:
    """The parts of files of their own, without rows whose source is a turn of other conversations too.

    A conversation that begins as others do is no copy of them: its first row is left out, the rest stays.
    One all of whose rows stand in an earlier part is a copy, and kept for `refuse_leaks`.

    Args:
        parts: each part's rows, the training part first.

    Returns:
        The parts, and a note for each that lost rows.
    """
    kept: dict[Part, list[Example]] = {}
    notes: list[str] = []
    earlier: dict[bytes, bool] = {}  # a source -> whether it is a shared turn of its own file
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
                f"{examples[0].path}: {num_left_out:,} rows are left out of {part}: their source is a turn "
                "of conversations of another part too"
            )
        for key, example in zip(keys, examples, strict=True):
            earlier[key] = earlier.get(key, False) or example.is_shared
    return kept, notes


def refuse_leaks(parts: Mapping[Part, Sequence[Example]]) -> None:
    """Refuse a source that stands in two files, naming each pair of rows.

    Raises:
        DataError: there is one.
    """
    seen: dict[bytes, Example] = {}
    problems: list[Problem] = []
    for examples in parts.values():
        keys = [source_key(example.source) for example in examples]
        for key, example in zip(keys, examples, strict=True):
            other = seen.get(key)
            if other is not None:
                problems.append(
                    Problem(
                        f"{_named(example)} has the same source as {_named(other)} of {other.where}",
                        where=example.where,
                        fix="Take it out of one of the two, or accept it with --allow leakage.",
                    )
                )
        for key, example in zip(keys, examples, strict=True):
            seen.setdefault(key, example)
    if problems:
        raise DataError(problems)


def _named(example: Example) -> str:
    return f"row {example.row}" + (f" (answer {example.turn})" if example.turn else "")
