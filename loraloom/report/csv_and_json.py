"""The report for other programs: CSV for a spreadsheet, JSON for everything else."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict

from loraloom.errors import RunError
from loraloom.report.content import Content
from loraloom.run.folder import to_json
from loraloom.text.visible import visible

# A spreadsheet takes a cell that begins so for a formula; the wide forms too, under a Chinese locale.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")


def render_json(content: Content) -> str:
    """Everything in one document."""
    # A lone surrogate of an answer has no UTF-8; as an escape it is the same JSON.
    return to_json(asdict(content)).encode("utf-8", "backslashreplace").decode()


def render_csv(content: Content) -> str:
    """One line a row of the comparison, with a column for what each model said.

    Raises:
        RunError: nothing has been compared.
    """
    compared = content.comparison
    if compared is None:
        raise RunError(
            "there are no answers to make a table of",
            where=content.path,
            fix=f"`loraloom compare {content.path}` makes them.",
        )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(map(cell, ["row", "source", "reference", *compared.models]))
    for row in compared.rows:
        answers = [row.answers[model] for model in compared.models]
        writer.writerow(map(cell, [str(row.number), row.source, row.reference or "", *answers]))
    return table.getvalue()


def cell(text: str) -> str:
    """A text as a spreadsheet shows it and does not compute it."""
    text = visible(text)
    return f"'{text}" if _FORMULA.match(text) else text
