"""A source text and the pieces it was put together from, so that encoding can cut what is least worth."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """What a piece of a source is."""

    FIXED = 0  # the recipe's own text: a prefix, or what stands between the holes of a template
    SYSTEM = 1
    HISTORY = 2  # one earlier question or answer
    INPUT = 3  # what the question is about
    QUESTION = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a source.

    Args:
        kind: what it is.
        text: as it stands in the row, unaltered.
        gap: what separates it from the next piece, and goes when either goes.
    """

    kind: Kind
    text: str
    gap: str = ""


_PIECE = struct.Struct("=BII")  # kind, characters of the text, characters of the gap


def join(pieces: Iterable[Piece]) -> str:
    """The text of some pieces; a gap stands only between two pieces that have text."""
    text, gap = "", ""
    for piece in pieces:
        if piece.text:
            text, gap = f"{text}{gap}{piece.text}", piece.gap
    return text


def packed(pieces: Iterable[Piece]) -> bytes:
    """Which stretch of their joined text is what, in a few bytes; none for a question alone.

    A row keeps its source as one text: a million rows must not become millions of objects.
    """
    kept = [piece for piece in pieces if piece.text]
    if not kept or (len(kept) == 1 and kept[0].kind == Kind.QUESTION):
        return b""
    gaps = [len(piece.gap) for piece in kept[:-1]] + [0]
    return b"".join(
        _PIECE.pack(piece.kind, len(piece.text), gap) for piece, gap in zip(kept, gaps, strict=True)
    )


def pieces_of(source: str, parts: bytes) -> list[Piece]:
    """The pieces of a source text.

    Args:
        source: as `join` made it.
        parts: as `packed` made it of the same pieces.
    """
    return list(_unpacked(source, parts)) if parts else [Piece(Kind.QUESTION, source)]


def _unpacked(source: str, parts: bytes) -> Iterator[Piece]:
    start = 0
    for kind, length, gap in _PIECE.iter_unpack(parts):
        end = start + length
        yield Piece(Kind(kind), source[start:end], source[end : end + gap])
        start = end + gap
