"""Rows to answer, where an answer may be known or not: a data file, a text file, or text as given."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loraloom.data.examples import examples_of
from loraloom.data.formats.row import Row, check_file
from loraloom.data.layouts.table import recognise
from loraloom.data.rows import Findings, scan_rows
from loraloom.data.source import Kind, Piece, join, packed
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
        parts: which stretch of the source is what, as `source.packed` has it.
    """

    source: str
    response: str | None
    path: str
    row: int
    parts: bytes = b""


def read_prompts(path: Path, settings: DataSettings, *, shown_as: str) -> list[Prompt]:
    """The prompts of a file.

    Args:
        path: a `.txt` file with a prompt a line, or a data file as in training, whose answers may
            be left out.
        settings: as in training, so that a prompt becomes the same source text.
        shown_as: the file's name in messages.

    Raises:
        DataError: with every problem of the file.
    """
    if path.suffix == ".txt":
        return _text_prompts(path, settings, shown_as)
    findings = Findings()
    rows = list(scan_rows(path, settings, shown_as=shown_as, findings=findings))
    findings.raise_problems()
    missing = _missing_response(rows, settings, shown_as)
    if missing is not None:
        # With a stand-in for the answer, every rule about sources holds as in training.
        rows = [dataclasses.replace(row, values={**row.values, missing: STAND_IN}) for row in rows]
    examples = examples_of(iter(rows), settings, findings, shown_as=shown_as).examples
    return [
        Prompt(e.source, e.response if missing is None else None, e.path, e.row, e.parts) for e in examples
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
    fixed = Piece(Kind.FIXED, template.fill({}))
    prompts = []
    for number, text in enumerate(texts, start=1):
        pieces = [fixed, Piece(Kind.QUESTION, text)]
        prompts.append(Prompt(join(pieces), None, shown_as, number, packed(pieces)))
    return prompts


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


def _missing_response(rows: Sequence[Row], settings: DataSettings, shown_as: str) -> str | None:
    """The answer's column where the rows have none; None where they have it.

    Raises:
        DataError: the rows are of no known layout even with an answer.
    """
    if not rows:
        return None
    sample = [row.values for row in rows[:100]]
    if settings.columns:
        mapped = settings.columns.get("response")
        return mapped if mapped and not any(mapped in values for values in sample) else None
    try:
        recognise(sample, {}, where=shown_as)
    except DataError as error:
        for column in RESPONSES:
            try:
                recognise([{**values, column: STAND_IN} for values in sample], {}, where=shown_as)
            except DataError:
                continue
            return column
        raise error from None
    return None
