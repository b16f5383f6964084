"""Conversion of rows to examples: source text, response to learn, and origin."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from loraloom.data.dropped_rows import describe_dropped, describe_empty, describe_entries, describe_none_left
from loraloom.data.example import Example
from loraloom.data.field_text import FieldReader
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import DroppedRow, file_sha256
from loraloom.data.languages.row_languages import RowLanguages
from loraloom.data.layouts.exchange import Exchange, Flaw, Layout, LayoutOptions, UnknownRoles
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.recognition import recognise
from loraloom.data.rows import Findings, Row, digested, scan_rows
from loraloom.data.sources.source import join, packed
from loraloom.data.sources.source_builder import SourceMaker, check_holes
from loraloom.data.sources.source_template import SourceTemplate, describe_unasked
from loraloom.data.splitting.grouped_examples import in_groups
from loraloom.data.splitting.groups import SourceGroups
from loraloom.data.unused_columns import UnusedColumns
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, said_by

SAMPLE_ROWS = 100


class ExampleSink(Protocol):
    """A receiver of a file's examples, row by row: a list in memory, or files on disk."""

    def extend(self, examples: Iterable[Example], /) -> None:
        """Append the examples of one row."""


class RowGroups(Protocol):
    """A record of the sources of every row, by which the rows are grouped later."""

    def join(self, row: tuple[str, int], sources: Iterable[str]) -> None:
        """Record a row's sources."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples of a whole file.

    Args:
        examples: the examples, in file order.
        layout: name of the layout of its rows, for messages.
        notes: notes for the user on how the file was read: its layout, unused columns, dropped rows.
        dropped: number of empty exchanges that `data.on_empty: drop` dropped.
        sha256: sha256 of the file's bytes; for a hub dataset, of its rows.
        bad: rows that `data.on_invalid: drop` dropped.
    """

    examples: list[Example]
    layout: str
    notes: list[str]
    dropped: int
    sha256: str
    bad: list[DroppedRow] = field(default_factory=list)


def read_examples(
    path: Path,
    settings: DataSettings,
    *,
    shown_as: str,
    groups: RowGroups | None = None,
    sink: ExampleSink | None = None,
) -> Examples:
    """Read a data file as examples.

    Args:
        path, shown_as: as in `read_rows`.
        settings: `columns`, `labels`, `roles`, `answer_weights`, `context_columns`, `source_prefix`,
            `conversation_history`, `stringify`, `on_empty`, `on_invalid`, the language settings, and what
            `read_rows` uses.
        groups: collects the groups of rows if several files are read as one; the caller then calls
            `in_groups` after the last file.
        sink: receives the examples, and the list in the result stays empty; requires `groups`.

    Raises:
        DataError: lists every problem of the file: what `read_rows` reports, an unknown layout, and text
            that is missing, null, NaN, empty, not text, or contains invalid characters.
    """
    findings = Findings(on_invalid=settings.on_invalid)
    rows = scan_rows(path, settings, shown_as=shown_as, findings=findings)
    if not shown_as.startswith(HUB_PREFIX):
        read = examples_of(rows, settings, findings, shown_as=shown_as, groups=groups, sink=sink)
        return replace(read, sha256=file_sha256(path))
    digest = hashlib.sha256()
    hashed = digested(rows, digest)
    read = examples_of(hashed, settings, findings, shown_as=shown_as, groups=groups, sink=sink)
    return replace(read, sha256=digest.hexdigest())


def examples_of(
    rows: Iterator[Row],
    settings: DataSettings,
    findings: Findings,
    *,
    shown_as: str,
    groups: RowGroups | None = None,
    sink: ExampleSink | None = None,
    to_answer: bool = False,
    with_answers: bool = True,
) -> Examples:
    """Build examples from rows of `scan_rows`, as `read_examples` does; `sha256` is left empty.

    Args:
        rows: rows of one file.
        findings: receives problems with reading the file as `rows` advances.
        groups, sink: as in `read_examples`.
        to_answer: whether the rows are to be answered: a question at the end of a conversation is then an
            example with an empty response.
        with_answers: whether to read answers; otherwise every response is empty.

    Raises:
        DataError: lists every problem of the rows, and those in `findings`.
    """
    own = SourceGroups()
    kept: list[Example] = []
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    if not sample:
        if findings.dropped:
            findings.refuse(describe_none_left(shown_as, 0, len(findings.dropped)))
        findings.raise_problems()
    try:
        options = LayoutOptions.of(settings, to_answer=to_answer, with_answers=with_answers)
        reading = _Reading(
            settings,
            options,
            [row.values for row in sample],
            findings,
            shown_as,
            own if groups is None else groups,
            kept if sink is None else sink,
        )
    except DataError as error:
        raise DataError([*findings.problems, *error.problems]) from None
    for row in itertools.chain(sample, rows):
        reading.add(row)
    reading.refuse_unknown_roles()
    findings.raise_problems()
    reading.refuse_none()
    return Examples(
        examples=in_groups(kept, own) if groups is None else kept,
        layout=reading.layout.name,
        notes=findings.notes + reading.notes(),
        dropped=reading.dropped,
        sha256="",
        bad=findings.dropped,
    )


class _Reading:
    """The conversion of one file's rows to examples."""

    def __init__(
        self,
        settings: DataSettings,
        options: LayoutOptions,
        sample: Sequence[Mapping[str, object]],
        findings: Findings,
        shown_as: str,
        groups: RowGroups,
        sink: ExampleSink,
    ) -> None:
        self.layout: Layout = recognise(sample, options, where=shown_as)
        self._options = options
        self.dropped = 0
        self._settings = settings
        self._findings = findings
        self._shown_as = shown_as
        self._template = SourceTemplate(settings.source_prefix)
        check_holes(self._template, self.layout, sample)
        self._text = FieldReader(settings, findings, names_columns=self.layout.holes is None)
        self._sources = SourceMaker(self._template, self.layout, settings.conversation_history, self._text)
        self._languages = RowLanguages(settings, self.layout, sample, shown_as)
        self._unused = UnusedColumns(self.layout, self._template, sample, self._languages.columns)
        self._told = LayoutNotes()
        self._num_entries = 0
        self._num_examples = 0
        self._sink = sink
        self._groups = groups

    def add(self, row: Row) -> None:
        """Add the examples of a row; if the row has problems, report them and use no part of the row."""
        self._unused.add(row.values)
        members: list[Example] = []
        try:
            languages = self._languages.of(row.values)
            for exchange in self.layout.exchanges(row.values, self._options, self._told):
                example = self._example(row, exchange, languages)
                if example is not None:
                    members.append(example)
        except UnknownRoles as roles:
            self._told.unknown(row, roles.places)
        except Flaw as flaw:
            self._text.refuse(row, said_by(flaw), flaw.fix)
        if self._findings.is_bad(row.number):
            return
        self._num_entries += bool(members) and members[0].turn > 0
        self._groups.join((row.path, row.number), [member.source for member in members])
        self._num_examples += len(members)
        self._sink.extend(members)

    def refuse_none(self) -> None:
        """Refuse a file that yielded no examples.

        Raises:
            DataError: the file has no examples; the message says why.
        """
        if not self._num_examples:
            num_bad = len(self._findings.dropped)
            self._findings.refuse(
                describe_none_left(self._shown_as, self.dropped, num_bad, self._told.notes())
            )
            self._findings.raise_problems()

    def notes(self) -> list[str]:
        """Return notes for the user on how the file was read and what was left out."""
        template = self._template
        notes: list[str] = [Message("{path} was read as {name}", path=self._shown_as, name=self.layout.name)]
        notes += self._of_file(self._unused.notes())
        if template.columns and self.layout.asked[0] not in template.columns:
            notes.append(describe_unasked(self.layout.asked[0]))
        counts: list[str] = []
        if self.dropped:
            counts.append(describe_empty(self.dropped))
        if self._findings.dropped:
            counts.append(describe_dropped(self._findings.dropped))
        if self._num_entries:
            counts.append(describe_entries(self._num_entries, self.layout.entry, self._num_examples))
        return notes + self._of_file([*counts, *self._told.notes()])

    def _of_file(self, notes: Sequence[str]) -> list[str]:
        return [Message("{path}: {note}", path=self._shown_as, note=note) for note in notes]

    def refuse_unknown_roles(self) -> None:
        """Report each unknown role once; the last report shows the recipe lines that assign all of them."""
        for _, problem in self._told.problems():
            self._findings.refuse(problem)  # not a problem of a single row: a setting is missing

    def _example(self, row: Row, exchange: Exchange, languages: tuple[str, str]) -> Example | None:
        """Build the example of an exchange; None if it is empty or unusable."""
        num_problems = self._findings.num_problems
        pieces = self._sources.pieces(row, exchange)
        source = join(pieces)
        answer = exchange.response
        if answer is not None and not self._options.needs(answer):
            answer = None
        response = self._text(row, answer) if answer is not None else ""
        if self._findings.num_problems > num_problems or self._findings.is_bad(row.number):
            return None
        named = [(source, exchange.asked_name)]
        if answer is not None:
            named.append((response, answer.name))
        for text, name in named:
            if text.strip():
                continue
            if self._settings.on_empty == "drop":
                self.dropped += 1
            else:
                self._text.refuse_blank(row, name, text)
            return None
        return Example(
            source,
            response,
            row.path,
            row.number,
            row.line,
            exchange.turn,
            group="",
            has_history=bool(exchange.history) and not exchange.history_is_given,
            parts=packed(pieces),
            source_lang=languages[0],
            target_lang=languages[1],
        )
