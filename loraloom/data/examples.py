"""Rows to examples: a source text, the response to learn, and where they came from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from loraloom.data.dropped_rows import describe_dropped, describe_empty, describe_none_left
from loraloom.data.formats.cells import as_text
from loraloom.data.formats.invalid_characters import bad_character
from loraloom.data.formats.json_list import type_name
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import DroppedRow, file_sha256, location, shown_name, shown_names
from loraloom.data.layouts.column_paths import column_of, is_in, names_in
from loraloom.data.layouts.exchange import MISSING, Exchange, Field, Flaw, Layout, LayoutOptions, UnknownRoles
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.recognition import columns_of, recognise
from loraloom.data.rows import Findings, Row, scan_rows
from loraloom.data.sources.source import join, packed
from loraloom.data.sources.source_builder import SourceMaker
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.data.splitting.groups import SourceGroups, source_key
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

SAMPLE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn.

    Args:
        source: the whole source text: prefix or template, system text, history, instruction, input.
        response: the text to answer, unaltered; empty if the row is to be answered.
        path: the file, as the user wrote it.
        row: which row of it, from 1.
        line: the line the row begins on; None where the format has no lines.
        turn: which answer of its conversation, from 1; 0 outside one.
        group: examples of one group must stay on one side of a split.
        has_history: whether turns of its conversation stand before it.
        is_shared: whether its source is a turn that many conversations have. It ties its conversation to
            no other one, so it may be trained on and is never held out.
        parts: which stretch of the source is what, as `source.packed` has it.
    """

    source: str
    response: str
    path: str
    row: int
    line: int | None
    turn: int
    group: str
    has_history: bool = False
    is_shared: bool = False
    parts: bytes = b""

    @property
    def id(self) -> tuple[str, int] | tuple[str, int, int]:
        """(path, row), with the turn in a conversation: as it stands in split.json."""
        return (self.path, self.row, self.turn) if self.turn else (self.path, self.row)

    @property
    def where(self) -> str:
        """`file:line`, or the file alone where it has no lines."""
        return location(self.path, self.line)


@dataclass(frozen=True, slots=True)
class Examples:
    """A whole file as examples.

    Args:
        examples: in file order.
        layout: how its rows were read, for people.
        notes: what was accepted and should be known: extra columns, rows dropped.
        dropped: how many empty exchanges `data.on_empty: drop` left out.
        sha256: of the file's bytes; of a hub dataset, of its rows.
        bad: the rows that `data.on_invalid: drop` left out.
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
    groups: SourceGroups | None = None,
) -> Examples:
    """Read a data file as examples.

    Args:
        path, shown_as: as in `read_rows`.
        settings: `columns`, `labels`, `roles`, `answer_weights`, `context_columns`, `source_prefix`,
            `conversation_history`, `stringify`, `on_empty`, `on_invalid` and what `read_rows` uses.
        groups: those of the files read before, where several belong together; the caller then puts the
            examples `in_groups` after the last file.

    Raises:
        DataError: with every problem of the file: those of `read_rows`, a layout that is not
            known, and text that is missing, null, NaN, empty, not text, or holds what is not a character.
    """
    findings = Findings(on_invalid=settings.on_invalid)
    rows = scan_rows(path, settings, shown_as=shown_as, findings=findings)
    if not shown_as.startswith(HUB_PREFIX):
        read = examples_of(rows, settings, findings, shown_as=shown_as, groups=groups)
        return dataclasses.replace(read, sha256=file_sha256(path))
    digest = hashlib.sha256()
    read = examples_of(_digested(rows, digest), settings, findings, shown_as=shown_as, groups=groups)
    return dataclasses.replace(read, sha256=digest.hexdigest())


def examples_of(
    rows: Iterator[Row],
    settings: DataSettings,
    findings: Findings,
    *,
    shown_as: str,
    groups: SourceGroups | None = None,
    to_answer: bool = False,
    with_answers: bool = True,
) -> Examples:
    """`read_examples` for rows that `scan_rows` gives; `sha256` is left empty.

    Args:
        rows: of one file.
        findings: where problems with reading the file come in as `rows` advances.
        groups: as in `read_examples`.
        to_answer: the rows are to be answered: a question at the end of a conversation is an example,
            whose response is empty.
        with_answers: whether answers are looked at; else every response is empty, whatever stands there.
    """
    own = SourceGroups() if groups is None else groups
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    if not sample:
        if findings.dropped:
            findings.refuse(describe_none_left(shown_as, 0, len(findings.dropped)))
        findings.raise_problems()
    try:
        options = LayoutOptions.of(settings, to_answer=to_answer, with_answers=with_answers)
        reading = _Reading(settings, options, [row.values for row in sample], findings, shown_as, own)
    except DataError as error:
        raise DataError([*findings.problems, *error.problems]) from None
    for row in itertools.chain(sample, rows):
        reading.add(row)
    reading.refuse_unknown_roles()
    findings.raise_problems()
    examples = reading.examples()
    return Examples(
        examples=in_groups(examples, own) if groups is None else examples,
        layout=reading.layout.name,
        notes=findings.notes + reading.notes(),
        dropped=reading.dropped,
        sha256="",
        bad=findings.dropped,
    )


def in_groups(examples: Sequence[Example], groups: SourceGroups) -> list[Example]:
    """The examples, each in its group; after every row is read that a group may hold."""
    shared = groups.tie()
    return [
        dataclasses.replace(
            example,
            group=repr(groups.of((example.path, example.row))),
            is_shared=bool(shared) and source_key(example.source) in shared,
        )
        for example in examples
    ]


def _digested(rows: Iterator[Row], digest: hashlib._Hash) -> Iterator[Row]:
    for row in rows:
        digest.update(json.dumps(row.values, sort_keys=True, default=repr).encode())
        yield row


class _Reading:
    """The rows of one file on their way to examples."""

    def __init__(
        self,
        settings: DataSettings,
        options: LayoutOptions,
        sample: list[dict[str, Any]],
        findings: Findings,
        shown_as: str,
        groups: SourceGroups,
    ) -> None:
        self.layout: Layout = recognise(sample, options, where=shown_as)
        self._options = options
        self.dropped = 0
        self._settings = settings
        self._findings = findings
        self._shown_as = shown_as
        self._template = SourceTemplate(settings.source_prefix)
        holes = self.layout.holes
        if holes is None:
            inside = [name for name in self._template.columns if is_in(sample, name)]
            holes = (*columns_of(sample), *names_in(sample), *inside)
        self._template.check(list(dict.fromkeys(holes)), self.layout.response)
        self._sources = SourceMaker(self._template, self.layout, settings.conversation_history, self._text)
        self._read_columns = {*self.layout.columns, *self._template.columns}
        if self._template.columns:
            self._read_columns -= set(self.layout.context) - set(self._template.columns)
        self._read_columns |= {column_of(values, name) for values in sample for name in self._read_columns}
        self._extra: dict[str, None] = {}
        self._told = LayoutNotes()
        self._num_entries = 0
        self._examples: list[Example] = []
        self._groups = groups

    def add(self, row: Row) -> None:
        """Take in a row; what is wrong with it goes to the findings, and none of it is taken then."""
        for name in row.values.keys() - self._read_columns:
            self._extra[name] = None
        members: list[Example] = []
        try:
            for exchange in self.layout.exchanges(row.values, self._options, self._told):
                example = self._example(row, exchange)
                if example is not None:
                    members.append(example)
        except UnknownRoles as roles:
            self._told.unknown(row, roles.places)
        except Flaw as flaw:
            self._refuse(row, str(flaw), flaw.fix)
        if self._findings.is_bad(row.number):
            return
        self._num_entries += bool(members) and members[0].turn > 0
        self._groups.join((row.path, row.number), [member.source for member in members])
        self._examples += members

    def examples(self) -> list[Example]:
        """All examples, not yet in groups.

        Raises:
            DataError: none is left.
        """
        if not self._examples:
            num_bad = len(self._findings.dropped)
            self._findings.refuse(
                describe_none_left(self._shown_as, self.dropped, num_bad, self._told.notes())
            )
            self._findings.raise_problems()
        return self._examples

    def notes(self) -> list[str]:
        """What was accepted and should be known."""
        path, template = self._shown_as, self._template
        notes = [f"{path} was read as {self.layout.name}"]
        if self._extra:
            notes.append(f"{path}: columns not used: {shown_names(sorted(self._extra))}")
        if template.columns and self.layout.asked[0] not in template.columns:
            unused = shown_name(self.layout.asked[0])
            notes.append(f"data.source_prefix is a template without {unused}, whose text is in no source")
        if self.dropped:
            notes.append(f"{path}: {describe_empty(self.dropped)}")
        if self._findings.dropped:
            notes.append(f"{path}: {describe_dropped(self._findings.dropped)}")
        if self._num_entries:
            of = _counted(self._num_entries, self.layout.entries)
            gives = "give" if self._num_entries > 1 else "gives"
            counts = f"{of} {gives} {_counted(len(self._examples), 'rows')}"
            notes.append(f"{path}: {counts}, one for each answer that is learnt")
        notes += [f"{path}: {note}" for note in self._told.notes()]
        return notes

    def refuse_unknown_roles(self) -> None:
        """Refuse the roles that are not known, each once, with the lines that say whose they are."""
        for _, problem in self._told.problems():
            self._findings.refuse(problem)  # no matter of one bad row: a setting is missing

    def _example(self, row: Row, exchange: Exchange) -> Example | None:
        """The exchange's example; None where it is empty or not usable."""
        num_problems = self._findings.num_problems
        pieces = self._sources.pieces(row, exchange)
        source = join(pieces)
        answer = exchange.response
        if answer is not None and not self._options.needs(answer):
            answer = None
        response = self._text(row, answer) if answer is not None else ""
        if self._findings.num_problems > num_problems or self._findings.is_bad(row.number):
            return None
        named = [(source, _asked_name(exchange))]
        if answer is not None:
            named.append((response, answer.name))
        for text, name in named:
            if text.strip():
                continue
            if self._settings.on_empty == "drop":
                self.dropped += 1
            else:
                state = "blank" if text else "empty"
                self._refuse(row, f"{shown_name(name)} is {state}", "Fill it, or set `data.on_empty: drop`.")
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
        )

    def _text(self, row: Row, field: Field) -> str:
        """The field as text; "" after a problem was told, or for an optional one that is not there."""
        value = field.value
        if isinstance(value, str):
            bad = bad_character(value)
            if bad is None:
                return value
            name, place = bad
            self._refuse(
                row, f"{shown_name(field.name)} holds {name}", f"It is character {place} there; take it out."
            )
        elif value is MISSING:
            if not field.optional:
                self._refuse(row, f"{shown_name(field.name)} is missing")
        elif value is None:
            if not field.optional and self._settings.on_empty == "error":
                self._refuse(
                    row, f"{shown_name(field.name)} is null", "Fill it, or set `data.on_empty: drop`."
                )
        elif isinstance(value, float) and not math.isfinite(value):
            self._refuse(row, f"{shown_name(field.name)} is {value}, which is neither text nor a number")
        elif (text := as_text(value, as_written=self._settings.number_format == "written")) is not None:
            if self._settings.stringify or field.number:
                return text
            self._refuse(
                row,
                f"{shown_name(field.name)} is {_kind(value)} where text is needed",
                "Set `data.stringify: true` to take numbers, true and false, and dates as text.",
            )
        else:
            what = f"{shown_name(field.name)} is {_kind(value)} where text is needed"
            self._refuse(row, what, self._way_inside(field))
        return ""

    def _way_inside(self, field: Field) -> str:
        """How to have a text that is inside of a column; what is inside a turn is for the user to write."""
        if self.layout.holes is not None:
            return ""
        if isinstance(field.value, list):
            return f"Write a row for each, or name one in `data.columns`: {shown_name(f'{field.name}[0]')}."
        if isinstance(field.value, dict):
            return f"Name what is inside it in `data.columns`: {shown_name(f'{field.name}.KEY')}."
        return "Write the column as text."

    def _refuse(self, row: Row, what: str, fix: str = "") -> None:
        self._findings.refuse(Problem(f"row {row.number}: {what}", where=row.where, fix=fix), row.number)


def _asked_name(exchange: Exchange) -> str:
    """What is blank where an exchange asks nothing; of texts that are labelled, each must be there."""
    labelled = [field for field in (exchange.instruction, *exchange.inputs) if field.label]
    blank = [field.name for field in labelled if not str(field.value or "").strip()]
    return blank[0] if blank else exchange.instruction.name


def _counted(number: int, plural: str) -> str:
    return f"{number:,} {plural.removesuffix('s') if number == 1 else plural}"


def _kind(value: Any) -> str:
    if isinstance(value, (dict, list, bool)):
        return type_name(value)
    return "a number" if isinstance(value, (int, float, Decimal)) else f"of type {type(value).__name__}"
