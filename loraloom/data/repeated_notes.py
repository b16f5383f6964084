"""Merging of notes on several files, so that a note shared by many files is reported once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from loraloom.text.message import Message
from loraloom.text.template import pieces
from loraloom.text.units import counted


def merge_notes(notes: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Merge the notes on several files, in the order of the files.

    Args:
        notes: each file's name and its notes; a note that begins with that name is about that file, and any
            other note applies to all files.
    """
    first: dict[str, str] = {}  # note without the file's name -> the first such note
    files_of: dict[str, list[str]] = {}  # and the files it applies to
    for name, own in notes:
        for note in own:
            first.setdefault(note.removeprefix(name), note)
            files_of.setdefault(note.removeprefix(name), []).append(name)
    return [_of_files(first[key], names) for key, names in files_of.items()]


def _of_files(note: str, names: Sequence[str]) -> str:
    name, others = names[0], len(names) - 1
    if not others or not note.startswith(name):
        return note
    also = Message("{name} (and {files} as well)", name=name, files=counted(others, "other file"))
    if isinstance(note, Message):
        text, placeholder, _ = pieces(note.template)[0]
        if not text and note.values.get(placeholder) == name:
            return note.replaced(**{placeholder: also})
    return also + note.removeprefix(name)
