"""Merging of notes on several files, so that a note shared by many files is reported once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def merge_notes(notes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Merge the notes on several files, in the order of the files.

    Args:
        notes: each file's name and its notes; a note that begins with the name is about this file, any
            other about all files.
    """
    files_of: dict[str, list[str]] = {}  # note without the file's name -> files it applies to
    for name, own in notes:
        for note in own:
            files_of.setdefault(note.removeprefix(name), []).append(name)
    return [_of_files(note, names) for note, names in files_of.items()]


def _of_files(note: str, names: Sequence[str]) -> str:
    if not note.startswith((" ", ":")):  # it does not begin with a file's name
        return note
    others = len(names) - 1
    also = f" (and {others:,} other file{'s' * (others > 1)} as well)" if others else ""
    return f"{names[0]}{also}{note}"
