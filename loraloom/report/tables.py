"""The report as text: Markdown for a pull request, CSV for a spreadsheet, JSON for a program."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import asdict

from loraloom.errors import RunError
from loraloom.report import figures
from loraloom.report.compared import BASE_NAME, AnsweredRow, Compared
from loraloom.report.content import Content, Trained
from loraloom.report.unseen import visible
from loraloom.run import to_json

SHOWN_ROWS = 3
# A spreadsheet takes a cell that begins so for a formula; the wide forms too, under a Chinese locale.
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~&$])")
_MENTION = re.compile(r"([@#])(?=\w)")


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


def render_markdown(content: Content) -> str:
    """What a colleague wants to see in a pull request: verdicts, figures, a few answers."""
    parts = [f"## {plain(content.name)}", _origin(content)]
    if not content.is_finished:
        parts.append("Training has not ended: this is how far it has come.")
    parts += [f"- **failed**: {plain(each.name)} {plain(each.reason)}" for each in _failed(content)]
    if content.comparison is None:
        parts.append(f"No answers have been compared yet: `loraloom compare {content.path}`.")
    else:
        parts += _comparison(content.comparison)
    parts += [_training(content.experiments), _checks(content)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """A text on one line in which Markdown finds nothing to do: no link, no tag, no mention."""
    # GitHub looks for @names and #numbers after rendering, where a backslash no longer helps.
    return _MENTION.sub("\\1\u2060", _MARKDOWN.sub(r"\\\1", " ".join(visible(text).split())))


def fenced(text: str) -> str:
    """A text as a block that it cannot close, whatever runs of backticks it has."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{visible(text)}\n{fence}"


def _failed(content: Content) -> list[Trained]:
    return [each for each in content.experiments if each.status == "failed"]


def _origin(content: Content) -> str:
    rows = ", ".join(f"{number:,} {part}" for part, number in content.rows.items())
    base = f"base {plain(str(content.base['name']))}" if content.base else "the base is not loaded yet"
    return f"{base}; rows: {rows}; LoRALoom {plain(content.versions.get('loraloom', ''))}"


def _comparison(compared: Compared) -> list[str]:
    verdicts = "\n".join(
        f"- **{plain(verdict.word)}**: {plain(verdict.sentence)}" for verdict in compared.verdicts
    )
    notes = "\n".join(f"- {plain(caution)}" for caution in compared.cautions)
    signatures = "\n".join(
        f"- {figures.described(key).label or key}: `{visible(signature)}`"
        for key, signature in compared.signatures.items()
    )
    advice = compared.recommendation if len(compared.experiments) > 1 else ""
    return [
        verdicts,
        f"**{plain(advice)}**" if advice else "",
        f"**{plain(compared.basis)}**",
        notes,
        _figures(compared),
        f"<details><summary>How the figures were computed</summary>\n\n{signatures}\n\n</details>"
        if signatures
        else "",
        _answers(compared),
    ]


def _figures(compared: Compared) -> str:
    """Figures as rows and experiments as columns: a pull request is narrow."""
    lines = [["figure", *map(plain, compared.groups)], ["---", *("---:" for _ in compared.groups)]]
    for key in figures.ordered(compared.figures[BASE_NAME]):
        label = plain(figures.described(key).label or key)
        lines.append([label, *(_cell(compared, group, key) for group in compared.groups)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(compared: Compared, group: str, key: str) -> str:
    deviation = compared.deviations.get(group, {}).get(key)
    text = figures.written(key, compared.figures[group].get(key), deviation)
    difference = compared.differences[group].get(key)
    if difference is None:
        return text
    own, low, high = figures.written_difference(key, difference.difference, difference.low, difference.high)
    word = figures.verdict_word(key, difference.verdict)
    return f"{text}<br>{own} \\[{low}, {high}\\]" + (f"<br>{plain(word)}" if word else "")


def _answers(compared: Compared) -> str:
    rows = "\n\n".join(fenced(_answered(row)) for row in compared.rows[:SHOWN_ROWS])
    title = f"The first {min(SHOWN_ROWS, len(compared.rows))} of {compared.num_rows:,} rows, in order"
    return f"<details><summary>{title}</summary>\n\n{rows}\n\n</details>"


def _answered(row: AnsweredRow) -> str:
    lines = [f"{row.number}. {row.source}", *(f"{model}: {text}" for model, text in row.answers.items())]
    return "\n".join(lines if row.reference is None else [*lines, f"reference: {row.reference}"])


def _training(trained: list[Trained]) -> str:
    lines = ["| experiment | status | steps | kept | adapter |", "| --- | --- | ---: | ---: | ---: |"]
    for each in trained:
        kept = "–" if each.best_step is None else f"step {each.best_step:,}"
        size = figures.bytes_written(each.adapter.num_bytes if each.adapter else None)
        lines.append(f"| {plain(each.name)} | {plain(each.status)} | {each.step:,} | {kept} | {size} |")
    return "\n".join(lines)


def _checks(content: Content) -> str:
    loud = [finding for finding in content.checks if finding["level"] != "ok"]
    lines = [f"Checks: {len(content.checks) - len(loud)} of {len(content.checks)} are in order."]
    lines += [
        f"- **{plain(finding['level'])}** {plain(finding['where'])}: {plain(finding['message'])} "
        f"{plain(finding['fix'])}".rstrip()
        for finding in loud
    ]
    return "\n".join(lines) if content.checks else ""
