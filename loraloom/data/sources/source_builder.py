"""Construction of the source text for one question: prefix or template, system text, history, question."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loraloom.data.formats.row import Row
from loraloom.data.layouts.column_paths import is_in, names_in, value_at
from loraloom.data.layouts.exchange import Exchange, Field, Layout
from loraloom.data.layouts.recognition import columns_of
from loraloom.data.sources.source import Kind, Piece, join
from loraloom.data.sources.source_template import SourceTemplate

BETWEEN = "\n"  # system text, turns, question and input each start a new line


class SourceMaker:
    """Builder of the pieces of each source, according to the recipe.

    Args:
        template: `data.source_prefix`.
        layout: layout of the rows.
        with_history: `data.conversation_history`; ignored for a template, which places the history itself.
        read: returns a field of a row as text; "" after reporting a problem with the field.
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
        """Return the pieces of the source text; an empty list if the row has no question."""
        if self._template.columns:
            holes = {name: self._hole(row, exchange, name) for name in self._template.columns}
            asked = [_text(pieces) for name, pieces in holes.items() if name in self._layout.asked]
            is_asked = any(text.strip() for text in asked or map(_text, holes.values()))
            return self._template.pieces(holes) if is_asked else []
        asking = self._asked(row, exchange)
        if not asking:
            return []
        before = [self._system(row, exchange)]
        if self._with_history or exchange.history_is_given:
            before += self._history(row, exchange)
        fixed = Piece(Kind.FIXED, join(self._template.pieces({})))
        return [fixed, *(piece for piece in before if piece.text.strip()), *asking]

    def _asked(self, row: Row, exchange: Exchange) -> list[Piece]:
        """Return the pieces of the question; an empty list if it is incomplete.

        A question with labelled texts is incomplete if any text is blank; any other, if all its texts are.
        """
        asking = (exchange.instruction, *exchange.inputs)
        texts = [self._labelled(row, field) for field in asking]
        is_labelled = any(field.label for field in asking)
        if not (all if is_labelled else any)(text.strip() for text in texts):
            return []
        texts = [text for text in texts if text.strip()]
        # Of labelled texts (`premise: …`, `hypothesis: …`) any may be the question: the longest is cut.
        longest = max(range(len(texts)), key=lambda number: len(texts[number]))
        cut = {longest} if is_labelled and len(texts) > 1 else set(range(1, len(texts)))
        return [
            Piece(Kind.INPUT if number in cut else Kind.QUESTION, text, BETWEEN)
            for number, text in enumerate(texts)
        ]

    def _labelled(self, row: Row, field: Field) -> str:
        """Return the field's label followed by its text; "" if the text is blank."""
        text = self._read(row, field)
        return f"{field.label}{text}" if text.strip() else ""

    def _hole(self, row: Row, exchange: Exchange, name: str) -> list[Piece]:
        """Return the pieces that replace a template's `{name}`."""
        is_context = name in self._layout.context
        kind = Kind.QUESTION if name == self._question else Kind.INPUT
        if self._layout.holes is None and not is_context:
            optional = name in self._layout.asked[1:]
            return [Piece(kind, self._read(row, Field(name, value_at(row.values, name), optional)))]
        if name == "history" or (is_context and exchange.history and exchange.history[0].name == name):
            return self._history(row, exchange)
        if name == "system" or is_context:
            return [self._system(row, exchange)]
        asked = dict(zip(self._layout.asked, (exchange.instruction, *exchange.inputs), strict=False))
        return [Piece(kind, self._read(row, asked[name]))]

    def _system(self, row: Row, exchange: Exchange) -> Piece:
        return Piece(Kind.SYSTEM, self._read(row, exchange.system) if exchange.system else "", BETWEEN)

    def _history(self, row: Row, exchange: Exchange) -> list[Piece]:
        return [Piece(Kind.HISTORY, self._read(row, said), BETWEEN) for said in exchange.history]

    @property
    def _question(self) -> str:
        """The placeholder to cut last: that of the first question column, or else the template's last."""
        columns = self._template.columns
        return next((name for name in self._layout.asked if name in columns), columns[-1])


def check_holes(template: SourceTemplate, layout: Layout, sample: Sequence[Mapping[str, Any]]) -> None:
    """Reject a template that names an unknown column or the answer's column.

    Args:
        sample: values of the file's first rows.

    Raises:
        DataError: a placeholder names an unknown column, or the column of the answer.
    """
    holes = layout.holes
    if holes is None:
        inside = [name for name in template.columns if is_in(sample, name)]
        holes = (*columns_of(sample), *names_in(sample), *inside)
    template.check(list(dict.fromkeys(holes)), layout.response)


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)
