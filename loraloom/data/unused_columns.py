"""Columns that no example uses, and whether one of them contains the passage that questions are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from loraloom.data.formats.row import shown_names
from loraloom.data.layouts.column_paths import column_of
from loraloom.data.layouts.exchange import Layout
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.text.message import Message
from loraloom.text.visible import quoted

# A passage is several times as long as a question about it; a column of notes or links is not.
TIMES_AS_LONG = 2
FEWEST_CHARACTERS = 100  # mean length of a passage


class UnusedColumns:
    """Collector of the columns that no example uses.

    Args:
        layout: layout of the rows.
        template: `data.source_prefix`, whose columns are also used.
        sample: values of the file's first rows.
        also: columns that are read for another purpose.
    """

    def __init__(
        self,
        layout: Layout,
        template: SourceTemplate,
        sample: Sequence[Mapping[str, Any]],
        also: Collection[str] = (),
    ) -> None:
        self._layout, self._is_template = layout, bool(template.columns)
        self._read = {*layout.columns, *template.columns}
        if template.columns:
            self._read -= set(layout.context) - set(template.columns)
        self._read |= {column_of(values, name) for values in sample for name in self._read}
        self._read |= set(also)
        self._names: dict[str, None] = {}
        sizes = [{name: len(text) for name, text in row.items() if isinstance(text, str)} for row in sample]
        self._characters = Counter[str]()
        for size in sizes:
            self._characters.update(size)
        self._num_rows = len(sample)

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a row."""
        for name in values.keys() - self._read:
            self._names[name] = None

    def notes(self) -> list[str]:
        """Return notes that name the unused columns and a passage among them that questions may be about."""
        if not self._names:
            return []
        notes: list[str] = [
            Message("unused columns: {shown_names}", shown_names=shown_names(sorted(self._names)))
        ]
        passage = self._passage()
        if passage:
            asked, response = self._layout.asked[0], self._layout.response
            roles = Message(
                "{{instruction: {asked}, input: {passage}, response: {response}}}",
                asked=asked,
                passage=passage,
                response=response,
            )
            notes.append(
                Message(
                    "{passage} is in no source and is much longer than {asked}; if the question is "
                    "about it, set `data.columns: {roles}`",
                    passage=quoted(passage),
                    asked=quoted(asked),
                    roles=roles,
                )
            )
        return notes

    def _passage(self) -> str:
        """Return the unused column whose text is much longer than the question; "" if there is none."""
        if self._is_template or len(self._layout.asked) == 0 or self._layout.holes is not None:
            return ""
        least = max(
            FEWEST_CHARACTERS * self._num_rows,
            TIMES_AS_LONG * sum(self._characters[name] for name in self._layout.asked),
        )
        longest = max(self._names, key=lambda name: self._characters[name])
        return longest if self._characters[longest] >= least else ""
