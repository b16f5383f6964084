"""Rows to answer, where an answer may be known or not: a data file, a text file, or text as given."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraloom.data.examples import examples_of
from loraloom.data.formats.row import Row, check_file
from loraloom.data.kept_columns import check_kept, id_column, kept_values
from loraloom.data.layouts.table import columns_of, recognise
from loraloom.data.rows import Findings, scan_rows
from loraloom.data.source_template import SourceTemplate
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

# What an answer's column is called in the layouts known here.
RESPONSES = ("response", "output", "completion", "answer", "target", "summary", "highlights", "target_text")
STAND_IN = "-"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Something to answer.

    Args:
        source: the whole source text, as in training.
        response: the known answer, or None.
        path: where it comes from.
        row: which row there, from 1.
        kept: columns of that row to give back beside the answer.
    """

    source: str
    response: str | None
    path: str
    row: int
    kept: Mapping[str, Any] = field(default_factory=dict)


def read_prompts(
    path: Path,
    settings: DataSettings,
    *,
    shown_as: str,
    with_answers: bool = True,
    keep: Sequence[str] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Prompt]:
    """The prompts of a file.

    Args:
        path: a `.txt` file with a prompt a line, or a data file as in training, whose answers may
            be left out, in every row or in some.
        settings: as in training, so that a prompt becomes the same source text.
        shown_as: the file's name in messages.
        with_answers: whether known answers are wanted; else they are not even looked at.
        keep: columns to keep, besides an id; None keeps nothing.
        note: told of rows that are left out.

    Raises:
        DataError: with every problem of the file, or a column to keep is not in it.
    """
    if path.suffix == ".txt":
        if keep:
            raise DataError("a text file has no columns to keep", where="--keep", found=", ".join(keep))
        return _text_prompts(path, settings, shown_as)
    findings = Findings()
    rows = list(scan_rows(path, settings, shown_as=shown_as, findings=findings))
    findings.raise_problems()
    place = _answer_place(rows, settings, shown_as)
    kept = [] if keep is None else _kept_columns(rows, keep, settings, place, shown_as)
    unknown = {row.number for row in rows if place and not (with_answers and place.is_known(row.values))}
    # With a stand-in for the answer, every rule about sources holds as in training.
    filled = [
        dataclasses.replace(row, values=place.filled(row.values)) if place and row.number in unknown else row
        for row in rows
    ]
    read = examples_of(iter(filled), settings, findings, shown_as=shown_as)
    if read.dropped:
        note(f"{shown_as}: {read.dropped} empty questions are not answered (data.on_empty: drop)")
    values = {row.number: kept_values(row, kept) for row in rows}
    return [
        Prompt(e.source, None if e.row in unknown else e.response, e.path, e.row, values[e.row])
        for e in read.examples
    ]


def prompts_of_texts(
    texts: Sequence[str], settings: DataSettings, *, shown_as: str = "--prompt"
) -> list[Prompt]:
    """Prompts given as text, with the recipe's `source_prefix` in front.

    Raises:
        DataError: a text is blank, or `source_prefix` is a template over columns, which a text has not.
    """
    template = SourceTemplate(settings.source_prefix)
    if texts and template.columns:
        raise DataError(
            "data.source_prefix is a template over columns, and a text alone has none",
            where=shown_as,
            fix="Give the prompts as a data file with these columns: " + ", ".join(template.columns) + ".",
        )
    blank = [number for number, text in enumerate(texts, start=1) if not text.strip()]
    if blank:
        raise DataError(Problem(f"prompt {number} is empty", where=shown_as) for number in blank)
    return [
        Prompt(template.fill({}) + text, None, shown_as, number) for number, text in enumerate(texts, start=1)
    ]


def _text_prompts(path: Path, settings: DataSettings, shown_as: str) -> list[Prompt]:
    check_file(path, shown_as)
    try:
        lines = path.read_text(encoding=settings.encoding).splitlines()
    except (UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"is not {settings.encoding} text ({error})", where=shown_as, fix="Save it as UTF-8."
        ) from None
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise DataError("holds no prompt", where=shown_as, fix="Write one a line.")
    return prompts_of_texts(texts, settings, shown_as=shown_as)


@dataclass(frozen=True, slots=True)
class _AnswerPlace:
    """Where a row has its answer.

    Args:
        column: the answer's column, or its language.
        is_pair: whether that stands inside `translation`.
    """

    column: str
    is_pair: bool

    def is_known(self, values: Mapping[str, Any]) -> bool:
        """Whether a row has an answer: not where it is missing, null, NaN or blank."""
        value = self._inside(values).get(self.column)
        if isinstance(value, float) and math.isnan(value):
            return False
        return bool(value.strip()) if isinstance(value, str) else value is not None

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The row with a stand-in for its answer."""
        inside = {**self._inside(values), self.column: STAND_IN}
        has_pair = self.is_pair and isinstance(values.get("translation"), dict)
        return {**values, "translation": inside} if has_pair else inside if not self.is_pair else dict(values)

    def _inside(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        pair = values.get("translation") if self.is_pair else values
        return pair if isinstance(pair, Mapping) else {}


def _answer_place(rows: Sequence[Row], settings: DataSettings, shown_as: str) -> _AnswerPlace | None:
    """Where the rows have their answers, or would have them; None for conversations.

    Raises:
        DataError: the rows are of no known layout even with an answer.
    """
    if not rows:
        return None
    sample = [row.values for row in rows[:100]]
    if settings.columns:
        mapped = settings.columns.get("response")
        has_pairs = any(isinstance(values.get("translation"), dict) for values in sample)
        is_pair = has_pairs and not any(mapped in row.values for row in rows)
        return _AnswerPlace(mapped, is_pair) if mapped else None
    try:
        layout = recognise(sample, {}, where=shown_as)
    except DataError as error:
        found = columns_of([row.values for row in rows])
        for column in sorted(RESPONSES, key=lambda name: name not in found):  # one that the file has first
            try:
                recognise([{**values, column: STAND_IN} for values in sample], {}, where=shown_as)
            except DataError:
                continue
            return _AnswerPlace(column, is_pair=False)
        raise error from None
    is_pair = layout.columns == ("translation",)
    return _AnswerPlace(layout.response, is_pair) if is_pair or layout.holes is None else None


def _kept_columns(
    rows: Sequence[Row],
    keep: Sequence[str],
    settings: DataSettings,
    place: _AnswerPlace | None,
    shown_as: str,
) -> list[str]:
    """The columns to keep, the id first."""
    check_kept(keep, rows, shown_as=shown_as)
    used = {*settings.columns.values(), *([place.column] if place else [])}
    own = id_column(rows, used)
    return list(dict.fromkeys([*([own] if own else []), *keep]))
