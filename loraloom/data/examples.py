"""Rows to examples: a source text, the response to learn, and where they came from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from loraloom.data.formats.json_rows import type_name
from loraloom.data.formats.row import file_sha256, location, shown_name, shown_names
from loraloom.data.formats.tables import HUB_PREFIX
from loraloom.data.groups import SourceGroups
from loraloom.data.layouts.exchange import MISSING, Exchange, Field, Flaw, Layout
from loraloom.data.layouts.table import columns_of, recognise
from loraloom.data.rows import Findings, Row, scan_rows
from loraloom.data.source import join, packed
from loraloom.data.source_maker import SourceMaker
from loraloom.data.source_template import SourceTemplate
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

SAMPLE_ROWS = 100
# Line and form feeds are white space; the other control characters and half a surrogate pair are
# never meant, and tokenizers or files choke on them.
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn.

    Args:
        source: the whole source text: prefix or template, system text, history, instruction, input.
        response: the text to answer, unaltered.
        path: the file, as the user wrote it.
        row: which row of it, from 1.
        line: the line the row begins on; None where the format has no lines.
        turn: which answer of its conversation, from 1; 0 outside one.
        group: examples of one group must stay on one side of a split.
        parts: which stretch of the source is what, as `source.packed` has it.
    """

    source: str
    response: str
    path: str
    row: int
    line: int | None
    turn: int
    group: str
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
    """

    examples: list[Example]
    layout: str
    notes: list[str]
    dropped: int
    sha256: str


def read_examples(path: Path, settings: DataSettings, *, shown_as: str) -> Examples:
    """Read a data file as examples.

    Args:
        path, shown_as: as in `read_rows`.
        settings: `columns`, `source_prefix`, `conversation_history`, `stringify`, `on_empty` and
            what `read_rows` uses.

    Raises:
        DataError: with every problem of the file: those of `read_rows`, a layout that is not
            known, and text that is missing, null, NaN, empty, not text, or holds what is not a character.
    """
    findings = Findings()
    rows = scan_rows(path, settings, shown_as=shown_as, findings=findings)
    if not shown_as.startswith(HUB_PREFIX):
        read = examples_of(rows, settings, findings, shown_as=shown_as)
        return dataclasses.replace(read, sha256=file_sha256(path))
    digest = hashlib.sha256()
    read = examples_of(_digested(rows, digest), settings, findings, shown_as=shown_as)
    return dataclasses.replace(read, sha256=digest.hexdigest())


def examples_of(
    rows: Iterator[Row], settings: DataSettings, findings: Findings, *, shown_as: str
) -> Examples:
    """`read_examples` for rows that `scan_rows` gives; `sha256` is left empty.

    Args:
        rows: of one file.
        findings: where problems with reading the file come in as `rows` advances.
    """
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    if not sample:
        findings.raise_problems()
    try:
        reading = _Reading(settings, [row.values for row in sample], findings, shown_as)
    except DataError as error:
        raise DataError([*findings.problems, *error.problems]) from None
    for row in itertools.chain(sample, rows):
        reading.add(row)
    findings.raise_problems()
    return Examples(
        examples=reading.examples(),
        layout=reading.layout.name,
        notes=findings.notes + reading.notes(),
        dropped=reading.dropped,
        sha256="",
    )


def _digested(rows: Iterator[Row], digest: hashlib._Hash) -> Iterator[Row]:
    for row in rows:
        digest.update(json.dumps(row.values, sort_keys=True, default=repr).encode())
        yield row


class _Reading:
    """The rows of one file on their way to examples."""

    def __init__(
        self, settings: DataSettings, sample: list[dict[str, Any]], findings: Findings, shown_as: str
    ) -> None:
        self.layout: Layout = recognise(sample, settings.columns, where=shown_as)
        self.dropped = 0
        self._settings = settings
        self._findings = findings
        self._shown_as = shown_as
        self._template = SourceTemplate(settings.source_prefix)
        found = columns_of(sample)
        self._template.check(list(self.layout.holes or found), self.layout.response)
        self._sources = SourceMaker(self._template, self.layout, settings.conversation_history, self._text)
        self._read_columns = {*self.layout.columns, *self._template.columns}
        self._extra: dict[str, None] = {}
        self._told: Counter[str] = Counter()
        self._examples: list[Example] = []
        self._groups = SourceGroups()

    def add(self, row: Row) -> None:
        """Take in a row; what is wrong with it goes to the findings."""
        for name in row.values.keys() - self._read_columns:
            self._extra[name] = None
        members: list[Example] = []
        try:
            for exchange in self.layout.exchanges(row.values, self._told):
                example = self._example(row, exchange)
                if example is not None:
                    members.append(example)
        except Flaw as flaw:
            self._refuse(row, str(flaw))
        self._groups.join(row.number, [member.source for member in members])
        self._examples += members

    def examples(self) -> list[Example]:
        """All examples, each in its group.

        Raises:
            DataError: none is left.
        """
        if not self._examples:
            self._findings.refuse(
                Problem(f"no row is left: all {self.dropped} were empty", where=self._shown_as)
            )
            self._findings.raise_problems()
        for position, example in enumerate(self._examples):
            group = str(self._groups.of(example.row))
            self._examples[position] = dataclasses.replace(example, group=group)
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
            notes.append(f"{path}: {self.dropped} empty {_rows(self.dropped)} dropped (data.on_empty: drop)")
        notes += [f"{path}: {count} {what}" for what, count in sorted(self._told.items())]
        return notes

    def _example(self, row: Row, exchange: Exchange) -> Example | None:
        """The exchange's example; None where it is empty or not usable."""
        num_problems = self._findings.num_problems
        pieces = self._sources.pieces(row, exchange)
        source = join(pieces)
        response = self._text(row, exchange.response)
        if self._findings.num_problems > num_problems:
            return None
        for text, name in ((source, exchange.instruction.name), (response, exchange.response.name)):
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
            parts=packed(pieces),
        )

    def _text(self, row: Row, field: Field) -> str:
        """The field as text; "" after a problem was told, or for an optional one that is not there."""
        value = field.value
        if isinstance(value, str):
            bad = _NOT_TEXT.search(value)
            if bad is None:
                return value
            self._refuse(
                row,
                f"{shown_name(field.name)} holds {_character_name(bad.group())}",
                f"It is character {bad.start() + 1} there; take it out.",
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
        elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            if self._settings.stringify:
                return str(value)
            self._refuse(
                row,
                f"{shown_name(field.name)} is a number where text is needed",
                "Set `data.stringify: true` to take numbers as text.",
            )
        else:
            self._refuse(row, f"{shown_name(field.name)} is {_kind(value)} where text is needed")
        return ""

    def _refuse(self, row: Row, what: str, fix: str = "") -> None:
        self._findings.refuse(Problem(f"row {row.number}: {what}", where=row.where, fix=fix), row.number)


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _kind(value: Any) -> str:
    return type_name(value) if isinstance(value, (dict, list, bool)) else f"of type {type(value).__name__}"


def _character_name(char: str) -> str:
    code = ord(char)
    if code == 0:
        return "NUL (U+0000)"
    kind = "half a surrogate pair" if code >= 0xD800 else "a control character"
    return f"{kind} (U+{code:04X})"
