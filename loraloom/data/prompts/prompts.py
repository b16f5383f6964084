"""Prompts from a data file, a text file or the command line, with or without known answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loraloom.data.example import Example
from loraloom.data.examples import examples_of
from loraloom.data.formats.compression import data_suffix
from loraloom.data.formats.row import Row, check_file, location
from loraloom.data.formats.text import numbered_lines
from loraloom.data.layouts.column_paths import is_in
from loraloom.data.layouts.exchange import MISSING, Flaw, LayoutOptions
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.recognition import recognise
from loraloom.data.prompts.passthrough_columns import check_kept, id_column, kept_values
from loraloom.data.rows import Findings, scan_rows
from loraloom.data.sources.source import Kind, Piece, join, packed
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, joined

# Names of the answer's column in the known layouts.
RESPONSES = (
    "response",
    "output",
    "completion",
    "answer",
    "target",
    "summary",
    "highlights",
    "target_text",
    "label",
    "score",
    "answers",
)
STAND_IN = "-"
TEXT_SUFFIX = ".txt"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A source text to be answered.

    Args:
        source: the whole source text, as in training.
        response: the known answer, or None.
        path: the file it comes from.
        row: number of its row in that file, from 1; in a text file, number of its line.
        parts: kinds and lengths of the pieces of the source, as returned by `source.packed`.
        kept: names and values of the row's columns that are returned with the answer.
        source_lang, target_lang: as in `Example`.
    """

    source: str
    response: str | None
    path: str
    row: int
    parts: bytes = b""
    kept: Mapping[str, Any] = field(default_factory=dict)
    source_lang: str = ""
    target_lang: str = ""


def read_prompts(
    path: Path,
    settings: DataSettings,
    *,
    shown_as: str,
    with_answers: bool = True,
    keep: Sequence[str] | None = None,
    findings: Findings | None = None,
) -> list[Prompt]:
    """Read the prompts of a file.

    Args:
        path: a `.txt` file with one prompt per line, or a data file as in training, whose answers may
            be missing in some or all rows. For a conversation that ends in a question, the prompt is
            that question, preceded by its history.
        settings: as in training, so that a prompt becomes the same source text.
        shown_as: the file's name in messages.
        with_answers: whether to read known answers; otherwise they are ignored.
        keep: columns to keep besides the id column, if the file has one; None keeps not even the id.
        findings: receives notes on how the file was read.

    Raises:
        DataError: lists every problem of the file, including columns to keep that are missing.
    """
    findings = findings if findings is not None else Findings()
    if data_suffix(path) == TEXT_SUFFIX:
        if keep:
            raise DataError(
                Message("a text file has no columns to keep"), where="--keep", found=", ".join(keep)
            )
        return _text_prompts(path, settings, shown_as, findings)
    also = (Message("{text_suffix} (one prompt per line)", text_suffix=TEXT_SUFFIX),)
    rows = list(scan_rows(path, settings, shown_as=shown_as, findings=findings, also=also))
    findings.raise_problems()
    missing = _missing_response(rows, settings, shown_as)
    kept = [] if keep is None else _kept_columns(rows, keep, settings, missing, shown_as)
    values = {row.number: kept_values(row, kept) for row in rows}
    if missing is not None:
        rows = [dataclasses.replace(row, values=_with_null(row.values, missing)) for row in rows]
    read = examples_of(
        iter(rows), settings, findings, shown_as=shown_as, to_answer=True, with_answers=with_answers
    )
    if read.dropped:
        findings.notes.append(
            Message(
                "{shown_as}: {dropped} empty questions were skipped (data.on_empty: drop)",
                shown_as=shown_as,
                dropped=read.dropped,
            )
        )
    return [
        Prompt(
            e.source,
            e.response or None,
            e.path,
            e.row,
            e.parts,
            values[e.row],
            source_lang=e.source_lang,
            target_lang=e.target_lang,
        )
        for e in read.examples
    ]


def to_answer(prompt: Prompt) -> Example:
    """Convert a prompt to an example; the response is "" if no answer is known."""
    return Example(
        prompt.source,
        prompt.response or "",
        prompt.path,
        prompt.row,
        line=None,
        turn=0,
        group="",
        parts=prompt.parts,
        source_lang=prompt.source_lang,
        target_lang=prompt.target_lang,
    )


def prompts_of_texts(
    texts: Sequence[str], settings: DataSettings, *, shown_as: str = "--prompt"
) -> list[Prompt]:
    """Create prompts from text, with the recipe's `source_prefix` in front.

    Raises:
        DataError: a text is blank, or `source_prefix` is a template over columns, which a text does not have.
    """
    findings = Findings()
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            findings.refuse(
                Problem(Message("prompt {number} is empty", number=number), where=shown_as), number
            )
    findings.raise_problems()
    return _prompts(list(enumerate(texts, start=1)), settings, shown_as)


def _text_prompts(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> list[Prompt]:
    """Read one prompt per line, each with its line number; blank lines are skipped."""
    check_file(path, shown_as)
    lines = numbered_lines(path, settings.encoding, shown_as, findings)
    numbered = [(number, line) for number, line in lines if line.strip()]
    if not numbered:
        raise DataError(
            Message("contains no prompt"), where=shown_as, fix=Message("Write one prompt per line.")
        )
    for number, line in numbered:
        where = location(shown_as, number)
        if "\r" in line:
            what, fix = (
                Message("the prompt contains a carriage return"),
                Message("End lines with \\n or \\r\\n."),
            )
            findings.refuse(Problem(what, where=where, fix=fix), number)
    findings.raise_problems()
    return _prompts(numbered, settings, shown_as)


def _prompts(numbered: Sequence[tuple[int, str]], settings: DataSettings, shown_as: str) -> list[Prompt]:
    template = SourceTemplate(settings.source_prefix)
    if not numbered:
        return []
    if template.columns:
        raise DataError(
            Message("`data.source_prefix` is a template over columns, but a text has no columns"),
            where=shown_as,
            fix=Message("Give the prompts as a data file with these columns: ")
            + ", ".join(template.columns)
            + ".",
        )
    fixed = Piece(Kind.FIXED, template.fill({}))
    prompts = []
    for number, text in numbered:
        pieces = [fixed, Piece(Kind.QUESTION, text)]
        prompts.append(
            Prompt(
                join(pieces),
                None,
                shown_as,
                number,
                packed(pieces),
                source_lang=settings.source_lang or "",
                target_lang=settings.target_lang or "",
            )
        )
    return prompts


def _missing_response(rows: Sequence[Row], settings: DataSettings, shown_as: str) -> str | None:
    """Return the name of the answer column if the rows lack that column; None if they have it.

    Raises:
        DataError: even with an added answer column, the rows match no known layout, or match several layouts
            that read different questions.
    """
    if not rows:
        return None
    sample = [row.values for row in rows[:100]]
    options = LayoutOptions.of(settings, to_answer=True)
    if settings.columns:
        mapped = settings.columns.get("response")
        return mapped if mapped and not is_in(sample, mapped) else None
    try:
        recognise(sample, options, where=shown_as)
    except DataError as error:
        ways = _ways_to_ask(sample, options, shown_as)
        if not ways:
            raise DataError(error.problems) from None
        if len(ways) > 1:
            columns = joined(" or ", (f"`{column}`" for column in ways.values()))
            raise DataError(
                Message("its rows have no answer column, so it is unclear which column is the question"),
                where=shown_as,
                fix=Message(
                    "Add the answer column of the training rows ({columns}), filled with null.",
                    columns=columns,
                ),
            ) from None
        return next(iter(ways.values()))
    return None


def _ways_to_ask(
    sample: Sequence[Mapping[str, object]], options: LayoutOptions, shown_as: str
) -> dict[tuple[tuple[str, str], ...], str]:
    """Map each way to read the questions of rows without answers to the answer column that it requires.

    A way consists of the names and labels of the question's texts; only those with the most texts are kept.
    """
    ways: dict[tuple[tuple[str, str], ...], str] = {}
    for column in RESPONSES:
        answered = [{**values, column: STAND_IN} for values in sample]
        try:
            layout = recognise(answered, options, where=shown_as)
            asked = next(layout.exchanges(answered[0], options, LayoutNotes()), None)
        except (DataError, Flaw):
            continue
        if asked is not None:
            texts = [text for text in (asked.instruction, *asked.inputs) if text.value is not MISSING]
            ways.setdefault(tuple((text.name, text.label) for text in texts), column)
    most = max(map(len, ways), default=0)
    return {way: column for way, column in ways.items() if len(way) == most}


def _with_null(values: Mapping[str, object], column: str) -> dict[str, object]:
    """Set a row's missing answer to None: in a column, in `translation`, or at the end of a path."""
    pair = values.get("translation")
    if isinstance(pair, dict) and column not in values and "." not in column:
        return {**values, "translation": {column: None, **pair}}
    head, dot, rest = column.partition(".")
    inner = values.get(head)
    if dot and isinstance(inner, dict):
        return {**values, head: _with_null(inner, rest)}
    return {**values, column: values.get(column)}


def _kept_columns(
    rows: Sequence[Row],
    keep: Sequence[str],
    settings: DataSettings,
    missing: str | None,
    shown_as: str,
) -> list[str]:
    """List the columns to keep, beginning with the id column, if there is one."""
    check_kept(keep, rows, shown_as=shown_as)
    used = {*settings.columns.values(), *([missing] if missing else [])}
    own = id_column(rows, used)
    return list(dict.fromkeys([*([own] if own else []), *keep]))
