"""Preview of a data file for writing a recipe: columns, layout, rows, text lengths."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.data.examples import examples_of
from loraloom.data.files.data_file import DataFile
from loraloom.data.layouts.exchange import LayoutOptions
from loraloom.data.layouts.no_layout import NoLayoutError
from loraloom.data.layouts.recognition import columns_of, recognise
from loraloom.data.repeated_notes import merge_notes
from loraloom.data.rows import Findings, Row, scan_rows
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, joined

PEEK_ROWS = 2_000
# This much takes a few seconds to read; the number of rows of a larger file is estimated from it.
COUNTED_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Lengths:
    """Percentiles of text lengths, in characters."""

    p50: int
    p90: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A summary of a data file from its first rows.

    Args:
        columns: the columns, in order of appearance.
        layout: the layout in which the rows are read.
        num_rows: number of rows in the file.
        exact: whether `num_rows` is exact; for a very large file it is estimated, and a note says so.
        num_looked_at: number of first rows that were read; all other fields but `num_rows` are based on them.
        num_examples: estimated number of examples; each answer of a conversation is one.
        num_entries: number of first rows that are conversations or articles, which yield several examples.
        num_later_turns: number of examples in the first rows that are later turns of a conversation.
        source, response: percentiles of the lengths in the first rows.
        languages: pairs of languages in the first rows, as stated there or in the recipe; "" if not stated.
        lengths: source and response length of each example in the first rows, in characters.
        notes: notes for the user on anything unusual that was not refused.
    """

    columns: list[str]
    layout: str
    num_rows: int
    exact: bool
    num_looked_at: int
    num_examples: int
    num_entries: int
    num_later_turns: int
    source: Lengths
    response: Lengths
    notes: list[str]
    languages: tuple[tuple[str, str], ...] = ()
    lengths: tuple[tuple[int, int], ...] = ()


def preview(path: Path, settings: DataSettings, *, shown_as: str | None = None) -> Preview:
    """Summarize a data file from its first rows, and count all its rows, or estimate their number.

    Args:
        path: the file.
        settings: as in `read_examples`.
        shown_as: the file's name in messages; by default its path.

    Raises:
        NoLayoutError: the roles of the columns are not recognised.
        DataError: the file cannot be read, contains an invalid row, or one of its first rows is unusable.
    """
    shown_as = shown_as or str(path)
    findings = Findings(on_invalid=settings.on_invalid)
    rows = scan_rows(path, settings, shown_as=shown_as, findings=findings)
    first = list(itertools.islice(rows, PEEK_ROWS))
    num_rows, exact = _num_rows(path, len(first), rows, findings)
    if not exact:
        findings.notes.append(
            Message(
                "{shown_as} has about {num_rows:,} rows (estimated from its beginning)",
                shown_as=shown_as,
                num_rows=num_rows,
            )
        )
    if num_rows > len(first):
        findings.notes.append(
            Message(
                "{shown_as}: what follows is based on the first {num_first:,} rows; `loraloom "
                "check` reads all rows",
                shown_as=shown_as,
                num_first=len(first),
            )
        )
    sample = [row.values for row in first]
    if first and not findings.num_problems:  # otherwise `examples_of` reports all problems at once
        recognise(sample, LayoutOptions.of(settings), where=shown_as)
    read = examples_of(iter(first), settings, findings, shown_as=shown_as)
    return Preview(
        columns=columns_of(sample),
        layout=read.layout,
        num_rows=num_rows,
        exact=exact,
        num_looked_at=len(first),
        num_examples=round(len(read.examples) * num_rows / len(first)),
        num_entries=len({example.row for example in read.examples if example.turn}),
        num_later_turns=sum(example.has_history for example in read.examples),
        source=_lengths([example.source for example in read.examples]),
        response=_lengths([example.response for example in read.examples]),
        notes=read.notes,
        languages=tuple(dict.fromkeys((each.source_lang, each.target_lang) for each in read.examples)),
        lengths=tuple((len(example.source), len(example.response)) for example in read.examples),
    )


def preview_files(files: Sequence[DataFile], settings: DataSettings) -> Preview:
    """Preview several files as if they were one.

    Args:
        files: the files, at least one.
        settings: as in `read_examples`.

    Raises:
        NoLayoutError: the roles of one file's columns are not recognised, and nothing else is wrong.
        DataError: one or more files are unusable; lists the problems of each.
    """
    previews: list[Preview] = []
    problems: list[Problem] = []
    unknown: NoLayoutError | None = None
    for file in files:
        try:
            previews.append(preview(file.path, settings, shown_as=file.name))
        except DataError as error:
            problems += error.problems
            unknown = error if isinstance(error, NoLayoutError) else unknown
    if unknown is not None and len(problems) == 1:
        raise unknown
    if problems:
        raise DataError(problems)
    return Preview(
        columns=list(dict.fromkeys(column for each in previews for column in each.columns)),
        layout=joined(" and ", (dict.fromkeys(each.layout for each in previews))),
        num_rows=sum(each.num_rows for each in previews),
        exact=all(each.exact for each in previews),
        num_looked_at=sum(each.num_looked_at for each in previews),
        num_examples=sum(each.num_examples for each in previews),
        num_entries=sum(each.num_entries for each in previews),
        num_later_turns=sum(each.num_later_turns for each in previews),
        source=_longest([each.source for each in previews]),
        response=_longest([each.response for each in previews]),
        notes=merge_notes((file.name, each.notes) for file, each in zip(files, previews, strict=True)),
        languages=tuple(dict.fromkeys(pair for each in previews for pair in each.languages)),
        lengths=tuple(pair for each in previews for pair in each.lengths),
    )


def _longest(lengths: Sequence[Lengths]) -> Lengths:
    """Return each percentile's maximum over the files."""
    return Lengths(
        p50=max(each.p50 for each in lengths),
        p90=max(each.p90 for each in lengths),
        p99=max(each.p99 for each in lengths),
        longest=max(each.longest for each in lengths),
    )


def _num_rows(path: Path, num_read: int, rest: Iterator[Row], findings: Findings) -> tuple[int, bool]:
    """Return a file's number of rows, and whether it is exact rather than an estimate."""
    if findings.num_rows is not None:
        return findings.num_rows, True
    for _ in rest:
        num_read += 1
        if findings.bytes_read >= COUNTED_BYTES and findings.bytes_read < path.stat().st_size:
            return round(num_read * path.stat().st_size / findings.bytes_read), False
    return num_read, True


def _lengths(texts: Sequence[str]) -> Lengths:
    ordered = sorted(map(len, texts))

    def percentile(share: float) -> int:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return Lengths(percentile(0.5), percentile(0.9), percentile(0.99), ordered[-1])
