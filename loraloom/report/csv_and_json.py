"""The report for other programs: CSV for spreadsheets, JSON for everything else."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict

from loraloom.errors import RunError
from loraloom.report.content import Content
from loraloom.run.folder import to_json
from loraloom.text.message import Message
from loraloom.text.visible import visible

# Spreadsheets read a cell that begins this way as a formula; a Chinese locale includes the full-width forms.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")


def render_json(content: Content) -> str:
    """Render everything as one document."""
    # A lone surrogate in an answer cannot be UTF-8; as an escape it is equivalent JSON.
    return to_json(asdict(content)).encode("utf-8", "backslashreplace").decode()


def render_csv(content: Content) -> str:
    """Render one line per row of the comparison, with a column for the answer of each model.

    Raises:
        RunError: nothing has been compared.
    """
    compared = content.comparison
    if compared is None:
        raise RunError(
            Message("there are no answers for a table"),
            where=content.path,
            fix=Message("Create them with `loraloom compare {path}`.", path=content.path),
        )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(map(cell, ["row", "source", "reference", *compared.models]))
    for row in compared.rows:
        answers = [row.answers[model] for model in compared.models]
        writer.writerow(map(cell, [str(row.number), row.source, row.reference or "", *answers]))
    return table.getvalue()


def cell(text: str) -> str:
    """Escape a text so that a spreadsheet shows it instead of computing it."""
    text = visible(text)
    return f"'{text}" if _FORMULA.match(text) else text
