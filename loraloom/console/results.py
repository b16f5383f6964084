"""Results of commands on stdout: tables, findings, rows, learning rates, comparisons."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from loraloom.checks.finding import Finding
from loraloom.console.finding_text import COLOURS, paragraph, summary, to_show
from loraloom.console.streams import Stdout, text_width
from loraloom.console.wrapping import BreakableText, print_text
from loraloom.run.documents.checks import LEVELS
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.text.units import counted, figure, percent, signed
from loraloom.text.visible import visible

if TYPE_CHECKING:
    from loraloom.checks.batch_view import RowView
    from loraloom.run.documents.comparison import Comparison, LanguagePair
    from loraloom.run.documents.range_test import RangeTest

WIDE = 120  # terminal columns; needed for a table of five columns
BAR_WIDTH = 30
BAR_AT = 36  # terminal columns before the bars of a range test


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table on stdout; in a pipe it is as wide as its text, so that nothing is cut off."""
    columns = [rendered(column) for column in columns]
    shown = [[visible(rendered(cell)) for cell in row] for row in rows]
    stdout = Stdout(highlight=False)
    if not stdout.is_terminal:
        widest = [max(map(cell_len, column)) + 2 for column in zip(columns, *shown, strict=True)]
        stdout = Stdout(highlight=False, width=max(80, sum(widest)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for number, row in enumerate(shown):
        table.add_row(*map(BreakableText, row), style=styles[number] if styles else None)
    stdout.print(table)


def print_findings(findings: Sequence[Finding], *, show_all: bool = False) -> None:
    """Print findings of `loraloom check`, most severe first: as a table if it fits, else as paragraphs.

    Args:
        findings: findings of any checks.
        show_all: whether to show passed checks in full; otherwise, only their number and names.
    """
    stdout = Stdout(highlight=False, soft_wrap=True)
    readable = [f.mapped(lambda text: visible(rendered(text))) for f in findings]
    shown = to_show(readable, show_all=show_all)
    width = text_width(stdout)
    if stdout.is_terminal and stdout.width >= WIDE:
        print_table(
            (Message("level"), Message("check"), Message("where"), Message("found"), Message("fix")),
            [(LEVELS[f.level], f.check, f.where, f.message, f.fix) for f in shown],
            [COLOURS[f.level] for f in shown],
        )
    else:
        for finding in shown:
            stdout.print(*paragraph(finding, width), sep="\n")
    stdout.print(*summary(readable, width, with_names=not show_all), sep="\n")


def print_batch(batch: Sequence[RowView]) -> None:
    """Print rows as the model sees them; the output contains text from the data."""
    from loraloom.checks.batch_view import view_lines  # this imports torch, as the caller already did

    stdout = Stdout(highlight=False, soft_wrap=True)
    for view in batch:
        for number, line in enumerate(view_lines(view, text_width(stdout))):
            style = "bold" if number == 0 else "dim" if number == 1 else ""
            _print_paragraph(stdout, visible(line), style=style)
        stdout.print()


def print_range_test(found: RangeTest) -> None:
    """Print a table of learning rates, their eval losses and gains over the base, and then the suggestion."""
    stdout = Stdout(highlight=False, soft_wrap=True)
    # This fits even if a terminal draws a bar's cells twice as wide, as some with Chinese fonts do.
    widest = min(BAR_WIDTH, max(0, stdout.width - BAR_AT) // 2) if stdout.is_terminal else BAR_WIDTH
    most = max((result.gain or 0 for result in found.results), default=0)
    rows = []
    for result in found.results:
        loss = Message("not finite") if result.eval_loss is None else f"{result.eval_loss:.4f}"
        change = "" if result.gain is None else f"{0.0 - result.gain:+.4f}"
        bar = "█" * round(widest * max(result.gain or 0, 0) / most) if most > 0 else ""
        rows.append((f"{result.learning_rate:g}", loss, change, bar))
    is_suggested = [result.learning_rate == found.suggestion for result in found.results]
    columns = (
        Message("learning rate"),
        Message("eval loss"),
        Message("change"),
        Message("gain over the base, {loss:.4f}", loss=found.base_eval_loss),
    )
    print_table(columns, rows, ["bold" if each else "" for each in is_suggested])
    _print_paragraph(stdout, rendered(found.reason))
    if found.suggestion is not None:
        stdout.print(Text(f"--set training.learning_rate={found.suggestion:g}", style="bold"))


def print_comparison(comparison: Comparison, shown_rows: int = 3) -> None:
    """Print a sentence on the effect of every adapter, the figures, and some answers side by side."""
    stdout = Stdout(highlight=False, soft_wrap=True)
    for sentence in comparison.sentences:
        _print_paragraph(stdout, rendered(sentence), style="bold")
    if len(comparison.sentences) > 1 and comparison.recommendation is not None:
        _print_paragraph(stdout, rendered(comparison.recommendation.sentence), style="bold")
    stdout.print()
    models, groups = comparison.models, comparison.models_of_groups
    keys = list(dict.fromkeys(key for model in models.values() for key in model.figures))
    columns = [[models[name].figures for name in names] for names in groups.values()]
    print_table(
        (Message("figure"), *groups),
        [
            (key, *(_figure_over_seeds(key, [own.get(key) for own in column]) for column in columns))
            for key in keys
        ],
    )
    for key, signature in comparison.signatures.items():
        if key not in keys:
            _print_paragraph(stdout, visible(f"{key}: {rendered(signature)}"), style="dim")
    print_languages(comparison)
    print_answers(comparison, shown_rows)


def print_languages(comparison: Comparison) -> None:
    """Print the figures of each language pair and their differences from the base, by experiment."""
    groups = comparison.models_of_groups
    shown = ("chrf_plus_plus", "spbleu", "bleu", "eval_loss")
    rows = []
    for name, pair in comparison.languages.items():
        of_retained = {model: {"retain_loss": loss} for model, loss in (pair.retain_losses or {}).items()}
        for key, figures in (*((key, pair.figures) for key in shown), ("retain_loss", of_retained)):
            if any(key in own for own in figures.values()):
                columns = {
                    group: [figures.get(model, {}).get(key) for model in names]
                    for group, names in groups.items()
                }
                num_rows = "" if key == "retain_loss" else str(pair.num_rows)
                cells = (
                    _with_difference(_figure_over_seeds(key, own), key, group, pair)
                    for group, own in columns.items()
                )
                rows.append((name, num_rows, key, *cells))
    if rows:
        Stdout(highlight=False).print()
        print_table((Message("languages"), Message("rows"), Message("figure"), *groups), rows)


def print_answers(comparison: Comparison, shown_rows: int, title: str = "") -> None:
    """Print the answers to the first rows, and how many more there are; a title, if given, comes first."""
    stdout = Stdout(highlight=False, soft_wrap=True)
    if title:
        stdout.print()
        print_text(stdout, Text(rendered(title)))
    for row in comparison.rows[:shown_rows]:
        stdout.print()
        print_text(stdout, Text(visible(row.source), style="bold"))
        for names in comparison.models_of_groups.values():
            first = names[0]  # only one of several seeds; the report shows them all
            answer = row.answers[first] if row.answers[first].strip() else rendered(Message("(blank)"))
            _print_answer(stdout, f"{first}: {answer}")
        if row.reference is not None:
            said = Message("reference: {reference}", reference=row.reference)
            _print_answer(stdout, rendered(said), style="dim")
    more = len(comparison.rows) - shown_rows
    if more > 0:
        stdout.print()
        stdout.print(Text(rendered(Message("… and {rows}", rows=counted(more, "more row"))), style="dim"))


def _with_difference(text: str, key: str, group: str, pair: LanguagePair) -> str:
    """Append to a figure's text its difference from the base and the verdict on that, if they are known."""
    found = next((d for d in pair.differences if d.model == group and d.metric == key), None)
    if found is None:
        return text
    is_unclear = found.verdict == "no significant difference"
    return Message(
        "{text} ({difference}, {verdict})",
        text=text,
        difference=signed(found.difference, 3 if key == "eval_loss" else 1),
        verdict=Message("not significant") if is_unclear else found.verdict,
    )


def _print_answer(stdout: Stdout, text: str, style: str = "") -> None:
    """Print text that begins with a name; on a terminal, continuation lines are indented further."""
    print_text(stdout, Text(visible(text), style=style), first="  ", indent="    ")


def _print_paragraph(stdout: Stdout, text: str, style: str = "") -> None:
    """Print a text in lines that fit the terminal; in a pipe, they fit $COLUMNS or 80 columns."""
    stdout.print(*BreakableText(text, style=style).wrap(stdout, text_width(stdout)), sep="\n")


def _figure_over_seeds(key: str, values: Sequence[float | None]) -> str:
    """Format a figure of several seeds as mean ± standard deviation; a single value is formatted as it is."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return _figure(key, known[0] if known else None)
    mean, deviation = _figure(key, statistics.fmean(known)), _figure(key, statistics.stdev(known))
    return Message("{mean} ± {deviation}", mean=mean, deviation=deviation)


def _figure(key: str, value: float | None) -> str:
    return percent(value) if value is not None and key.startswith("share_") else figure(value)
