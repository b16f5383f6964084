"""A first look at a data file, for writing a recipe: columns, layout, size, lengths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.data.examples import examples_of
from loraloom.data.layouts.exchange import LayoutOptions
from loraloom.data.layouts.table import columns_of, recognise
from loraloom.data.rows import Findings, Row, scan_rows
from loraloom.recipe import DataSettings

PEEK_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Lengths:
    """Percentiles of a text's length, in characters."""

    p50: int
    p90: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class Peek:
    """What a data file looks like from its first rows.

    Args:
        columns: in the order they appear.
        layout: how rows would be read.
        num_rows: how many rows the file has.
        exact: whether that was counted, or estimated from the bytes read.
        num_examples: what these rows give; of a conversation, each answer is one. Estimated as `num_rows` is.
        num_entries: how many of the first rows are conversations or articles, which give several examples.
        num_later_turns: how many examples of the first rows are later turns of a conversation.
        source, response: lengths over the first rows.
        notes: what was accepted and should be known.
    """

    columns: list[str]
    layout: str
    num_rows: int
    exact: bool
    num_examples: int
    num_entries: int
    num_later_turns: int
    source: Lengths
    response: Lengths
    notes: list[str]


def peek(path: Path, settings: DataSettings, *, shown_as: str | None = None) -> Peek:
    """Look at the first rows of a data file.

    Args:
        path: the file.
        settings: as in `read_examples`.
        shown_as: the file's name in messages; its path where not given.

    Raises:
        NoLayoutError: which column is what is not recognised.
        DataError: the file cannot be read, or one of its first rows is not usable.
    """
    shown_as = shown_as or str(path)
    findings = Findings()
    rows = scan_rows(path, settings, shown_as=shown_as, findings=findings)
    first = list(itertools.islice(rows, PEEK_ROWS))
    findings.raise_problems()
    num_rows, exact = _num_rows(path, first, findings)
    sample = [row.values for row in first]
    recognise(sample, LayoutOptions.of(settings), where=shown_as)
    read = examples_of(iter(first), settings, findings, shown_as=shown_as)
    return Peek(
        columns=columns_of(sample),
        layout=read.layout,
        num_rows=num_rows,
        exact=exact,
        num_examples=round(len(read.examples) * num_rows / len(first)),
        num_entries=len({example.row for example in read.examples if example.turn}),
        num_later_turns=sum(example.has_history for example in read.examples),
        source=_lengths([example.source for example in read.examples]),
        response=_lengths([example.response for example in read.examples]),
        notes=read.notes,
    )


def _num_rows(path: Path, first: Sequence[Row], findings: Findings) -> tuple[int, bool]:
    if findings.num_rows is not None:
        return findings.num_rows, True
    if len(first) < PEEK_ROWS:
        return len(first), True
    return max(len(first), round(len(first) * path.stat().st_size / findings.bytes_read)), False


def _lengths(texts: Sequence[str]) -> Lengths:
    ordered = sorted(map(len, texts))

    def percentile(share: float) -> int:
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]

    return Lengths(percentile(0.5), percentile(0.9), percentile(0.99), ordered[-1])
