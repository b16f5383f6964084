"""Notes on several files: what is true of many is said once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def merge_notes(notes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """The notes on several files, in the order of the files.

    Args:
        notes: each file's name and its notes; those that begin with the name are about this file, others
            about all.
    """
    files_of: dict[str, list[str]] = {}  # what is noted -> the files it is true of
    for name, own in notes:
        for note in own:
            files_of.setdefault(note.removeprefix(name), []).append(name)
    return [_of_files(note, names) for note, names in files_of.items()]


def _of_files(note: str, names: Sequence[str]) -> str:
    if not note.startswith((" ", ":")):  # it does not begin with a file's name
        return note
    others = len(names) - 1
    also = f" (and {others:,} other file{'s' * (others > 1)} likewise)" if others else ""
    return f"{names[0]}{also}{note}"
