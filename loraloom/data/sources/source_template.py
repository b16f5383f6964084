"""`data.source_prefix`: a prefix for every source, or a template with placeholders for columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from loraloom.data.formats.row import shown_names
from loraloom.data.sources.source import Kind, Piece
from loraloom.errors import DataError
from loraloom.text.message import Message
from loraloom.text.visible import quoted

_PARTS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")


class SourceTemplate:
    """A prefix (`translate: `) or a template (`translate: {text}`); `{{` and `}}` stand for literal braces.

    Args:
        text: the recipe's `data.source_prefix`.

    Raises:
        DataError: a brace is unmatched.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[bool, str]] = []  # (whether it is a column, column name or literal text)
        for part in filter(None, _PARTS.split(text)):
            if part in ("{", "}"):
                raise DataError(
                    Message("contains a single `{part}`", part=part),
                    where="data.source_prefix",
                    fix=Message(
                        "Write `{part}` for a literal brace, or `{{column}}` for a column's text.",
                        part=part * 2,
                    ),
                )
            is_column = part[0] == "{" and part != "{{"
            self._parts.append((is_column, part[1:-1] if is_column else _unescaped(part)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names; empty if it is only a prefix."""
        return tuple(dict.fromkeys(part for is_column, part in self._parts if is_column))

    def check(self, allowed: list[str], answer: str) -> None:
        """Reject a template that names an unknown column or reveals the answer.

        Args:
            allowed: column names that the template may contain.
            answer: column of the responses.

        Raises:
            DataError: the template names a column that is not allowed, or the column of the responses.
        """
        if answer in self.columns:
            raise DataError(
                Message("puts {answer}, the answer, into the source", answer=quoted(answer)),
                where="data.source_prefix",
                fix=Message("Remove it: a model that sees the answer learns only to copy it."),
            )
        for name in self.columns:
            if name not in allowed:
                raise DataError(
                    Message("there is no column {name}", name=quoted(name)),
                    where="data.source_prefix",
                    allowed=shown_names([column for column in allowed if column != answer]),
                    fix=Message("Write `{{{{` and `}}}}` for literal braces."),
                )

    def pieces(self, holes: Mapping[str, Sequence[Piece]]) -> list[Piece]:
        """Return the template with each placeholder replaced by pieces, the last of which gets no gap."""
        pieces: list[Piece] = []
        for is_column, part in self._parts:
            if is_column:
                filled = [piece for piece in holes[part] if piece.text]
                pieces += [*filled[:-1], *(replace(last, gap="") for last in filled[-1:])]
            else:
                pieces.append(Piece(Kind.FIXED, part))
        return pieces

    def fill(self, texts: Mapping[str, str]) -> str:
        """Replace each placeholder by its text."""
        return "".join(texts[part] if is_column else part for is_column, part in self._parts)


def _unescaped(part: str) -> str:
    return part[0] if part in ("{{", "}}") else part


def describe_unasked(column: str) -> Message:
    """Return a note saying that the template does not contain the question's column."""
    return Message(
        "data.source_prefix is a template without {column}, whose text is therefore in no source",
        column=quoted(column),
    )
