"""A source text and its pieces, which determine what is cut first when the text is encoded."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """The kind of one piece of a source, such as the history or the question."""

    FIXED = 0  # the recipe's own text: a prefix, or the text between the placeholders of a template
    SYSTEM = 1
    HISTORY = 2  # one earlier question or answer
    INPUT = 3  # the text that the question is about
    QUESTION = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A contiguous part of a source.

    Args:
        kind: kind of the piece.
        text: its text; the part of it that comes from the row is unaltered.
        gap: separator between this piece and the next; removed along with either of them.
    """

    kind: Kind
    text: str
    gap: str = ""


_PIECE = struct.Struct("=BII")  # kind, characters of the text, characters of the gap


def join(pieces: Iterable[Piece]) -> str:
    """Join the text of pieces; a gap is inserted only between two pieces that have text."""
    text, gap = "", ""
    for piece in pieces:
        if piece.text:
            text, gap = f"{text}{gap}{piece.text}", piece.gap
    return text


def packed(pieces: Iterable[Piece]) -> bytes:
    """Encode the kinds and lengths of pieces in a few bytes; b"" if the question is the only piece.

    A row stores its source as one text, so that a million rows do not need millions of `Piece` objects.
    """
    kept = [piece for piece in pieces if piece.text]
    if not kept or (len(kept) == 1 and kept[0].kind == Kind.QUESTION):
        return b""
    gaps = [len(piece.gap) for piece in kept[:-1]] + [0]
    return b"".join(
        _PIECE.pack(piece.kind, len(piece.text), gap) for piece, gap in zip(kept, gaps, strict=True)
    )


def pieces_of(source: str, parts: bytes) -> list[Piece]:
    """Split a source text into its pieces.

    Args:
        source: text returned by `join`.
        parts: bytes returned by `packed` for the same pieces.
    """
    return list(_unpacked(source, parts)) if parts else [Piece(Kind.QUESTION, source)]


def _unpacked(source: str, parts: bytes) -> Iterator[Piece]:
    start = 0
    for kind, length, gap in _PIECE.iter_unpack(parts):
        end = start + length
        yield Piece(Kind(kind), source[start:end], source[end : end + gap])
        start = end + gap
