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
    """Render the whole content as one JSON document."""
    # A lone surrogate in an answer cannot be encoded in UTF-8; as an escape it is equivalent JSON.
    return to_json(asdict(content)).encode("utf-8", "backslashreplace").decode()


def render_csv(content: Content) -> str:
    """Render the answers as CSV: one line per row of the comparison, and one column per model.

    If people have voted, one line per vote follows, and the last column names the chosen model.

    Raises:
        RunError: the run has neither a comparison nor votes.
    """
    compared, votes = content.comparison, content.votes.votes
    if compared is None and not votes:
        raise RunError(
            Message("there are no answers for a table"),
            where=content.path,
            fix=Message("Create them with `loraloom compare {path}`.", path=content.path),
        )
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    of_rows = () if compared is None else tuple(compared.models)
    models = tuple(dict.fromkeys((*of_rows, *(model for vote in votes for model in sorted(vote.answers)))))
    chosen = ["chosen"] if votes else []
    writer.writerow(map(cell, ["row", "source", "reference", *models, *chosen]))
    for row in () if compared is None else compared.rows:
        answers = [row.answers.get(model, "") for model in models]
        line = [str(row.number), row.source, row.reference or "", *answers, *("" for _ in chosen)]
        writer.writerow(map(cell, line))
    for number, vote in enumerate(votes, 1):
        answers = [vote.answers.get(model, "") for model in models]
        writer.writerow(map(cell, [f"vote {number}", vote.prompt, "", *answers, vote.chosen or ""]))
    return table.getvalue()


def cell(text: str) -> str:
    """Escape a text so that a spreadsheet shows it instead of evaluating it as a formula."""
    text = visible(text)
    return f"'{text}" if _FORMULA.match(text) else text
