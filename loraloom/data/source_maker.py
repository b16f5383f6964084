"""An exchange of a row to the pieces of its source: prefix or template, system text, history, question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loraloom.data.formats.row import Row
from loraloom.data.layouts.exchange import MISSING, Exchange, Field, Layout
from loraloom.data.source import Kind, Piece, join
from loraloom.data.source_template import SourceTemplate

BETWEEN = "\n"  # system text, turns, question and input stand on lines of their own


class SourceMaker:
    """The recipe's way to put a source together.

    Args:
        template: `data.source_prefix`.
        layout: of the rows.
        with_history: `data.conversation_history`; a template says by itself where history goes.
        read: a field of a row as text; "" after a problem was told.
    """

    def __init__(
        self,
        template: SourceTemplate,
        layout: Layout,
        with_history: bool,
        read: Callable[[Row, Field], str],
    ) -> None:
        self._template, self._layout = template, layout
        self._with_history, self._read = with_history, read

    def pieces(self, row: Row, exchange: Exchange) -> list[Piece]:
        """What the source text is put together from; nothing where the row asks nothing."""
        if self._template.columns:
            holes = {name: self._hole(row, exchange, name) for name in self._template.columns}
            asked = [_text(pieces) for name, pieces in holes.items() if name in self._layout.asked]
            is_asked = any(text.strip() for text in asked or map(_text, holes.values()))
            return self._template.pieces(holes) if is_asked else []
        asked = [self._read(row, field) for field in (exchange.instruction, *exchange.inputs)]
        asking = [text for text in asked if text.strip()]
        if not asking:
            return []
        before = [self._system(row, exchange)]
        if self._with_history:
            before += self._history(row, exchange)
        question, *inputs = asking
        fixed = Piece(Kind.FIXED, join(self._template.pieces({})))
        return [
            fixed,
            *(piece for piece in before if piece.text.strip()),
            Piece(Kind.QUESTION, question, BETWEEN),
            *(Piece(Kind.INPUT, text, BETWEEN) for text in inputs),
        ]

    def _hole(self, row: Row, exchange: Exchange, name: str) -> list[Piece]:
        """What a template's `{name}` stands for."""
        if self._layout.holes is None:
            optional = name in self._layout.asked[1:]
            text = self._read(row, Field(name, row.values.get(name, MISSING), optional))
            return [Piece(Kind.QUESTION if name == self._question else Kind.INPUT, text)]
        if name == "system":
            return [self._system(row, exchange)]
        if name == "history":
            return self._history(row, exchange)
        return [Piece(Kind.QUESTION, self._read(row, exchange.instruction))]

    def _system(self, row: Row, exchange: Exchange) -> Piece:
        return Piece(Kind.SYSTEM, self._read(row, exchange.system) if exchange.system else "", BETWEEN)

    def _history(self, row: Row, exchange: Exchange) -> list[Piece]:
        return [Piece(Kind.HISTORY, self._read(row, said), BETWEEN) for said in exchange.history]

    @property
    def _question(self) -> str:
        """The template's hole that is never cut: the first that the layout asks, or else its last."""
        columns = self._template.columns
        return next((name for name in self._layout.asked if name in columns), columns[-1])


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
