"""What a person sees: a live line where stderr is a terminal, plain lines elsewhere, tables on stdout."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from loraloom.checks.finding import Finding
from loraloom.checks.listing import COLOURS, paragraph, summary, to_show
from loraloom.training.plan_text import plan_lines

if TYPE_CHECKING:
    from loraloom.checks.batch_view import RowView
    from loraloom.workflows.find_lr import RangeTest

SECONDS_BETWEEN_LINES = 5.0
WIDE = 120  # columns; five columns of a table need them
TEXT_WIDTH = 100
BAR_WIDTH = 30
BAR_AT = 36  # columns before the bars of a range test
# Shown even where a verb is quiet.
WARNINGS = ("changed", "damaged", "export", "memory")
# Control characters and bidi overrides of a text could move the cursor or disguise what stands there.
_UNSEEN = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
VISIBLE = {code: ascii(chr(code))[1:-1] for code in _UNSEEN}


class _Stderr(Console):
    """Progress that nobody reads any more (`2>&1 | head`) must not stop the training."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Stdout(Console):
    """Results of which somebody wanted the first lines only (`| head`)."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _abandon_stdout()


def put(text: str) -> bool:
    """Write to stdout; False once nobody reads it any more (`| head`)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return False
    return True


def _abandon_stdout() -> None:
    """What is still buffered would fail again when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Display:
    """Shows the events of a verb as they come; call it as a `Report`.

    Args:
        is_quiet: show `WARNINGS` and nothing else (`--json`).
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.stderr = _Stderr(stderr=True, highlight=False, soft_wrap=True)
        self.is_quiet = is_quiet
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, tuple[float, int]] = {}
        self._last_line = 0.0

    def __call__(self, event: str, **fields: Any) -> None:
        """Show one event; those that people need not see are passed over."""
        show = getattr(self, f"_on_{event}", None)
        if show is not None and (not self.is_quiet or event in WARNINGS):
            show(fields)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, message: str, *, style: str = "") -> None:
        """One line on stderr, above the live one."""
        target = self._live.console if self._live is not None else self.stderr
        target.print(Text(message.translate(VISIBLE), style=style))

    def next_command(self, command: str) -> None:
        """The last line of a verb."""
        if not self.is_quiet:
            self.say(f"Next: {command}", style="bold")

    def _on_note(self, fields: Mapping[str, Any]) -> None:
        self.say(f"note: {fields['message']}")

    def _on_warning(self, fields: Mapping[str, Any]) -> None:
        self.say(f"warning: {fields['message']}", style="yellow")

    def _on_data(self, fields: Mapping[str, Any]) -> None:
        self.say(f"{fields['train']} rows to train on, {fields['eval']} eval, {fields['test']} test")

    def _on_checks(self, fields: Mapping[str, Any]) -> None:
        findings: Sequence[Finding] = fields["findings"]
        for finding in findings:
            if finding.level in ("warning", "error") or finding.check == "targets":
                self.say(f"{finding.level}: {finding.where}: {finding.message} {finding.fix}".rstrip())
        num_ok = sum(finding.level != "error" for finding in findings)
        self.say(f"{num_ok} of {len(findings)} checks passed")

    def _on_plan(self, fields: Mapping[str, Any]) -> None:
        for key, choice in fields["choices"].items():
            self.say(f"{key}: {choice['value']} ({choice['reason']})")
        if fields["plan"] is not None:
            for line in plan_lines(fields["plan"], min(self.stderr.width, TEXT_WIDTH)):
                self.say(line)
        for finding in fields["findings"]:
            if finding.level != "ok":
                self.say(f"{finding.level}: {finding.message}. {finding.fix}", style="bold yellow")
        self.say(f"run: {fields['folder']}")

    def _on_timing(self, fields: Mapping[str, Any]) -> None:
        if self.stderr.is_terminal:
            self.say("timing one step …", style="dim")

    def _on_resume(self, fields: Mapping[str, Any]) -> None:
        self.say(f"resuming after step {fields['step']}: {fields['reason']}")

    def _on_export(self, fields: Mapping[str, Any]) -> None:
        self.say(f"adapters/{fields['experiment']} is written anew: {fields['reason']}", style="yellow")

    def _on_changed(self, fields: Mapping[str, Any]) -> None:
        path, what = fields["path"], fields["what"]
        self.say(f"warning: {path} is not as the run wrote it: {what}", style="yellow")

    def _on_memory(self, fields: Mapping[str, Any]) -> None:
        step, tried = fields["step"], fields["tried"]
        if fields["phase"] == "training":
            now = f"{fields['pass_tokens']:,} tokens a pass, and a step takes the same rows as before"
            what = f"in step {step} with {tried:,} tokens a pass; from now on at most {now}"
        else:
            now = f"{fields['eval_rows']}, which changes no figure"
            what = f"in the evaluation after step {step} with {tried} rows at once; from now on at most {now}"
        self.say(f"warning: memory ran out {what}", style="yellow")

    def _on_damaged(self, fields: Mapping[str, Any]) -> None:
        self.say(f"warning: checkpoint {fields['path']} is not used: {fields['problem']}", style="yellow")

    def _on_eval(self, fields: Mapping[str, Any]) -> None:
        figures = "  ".join(f"{key} {value:.4f}" for key, value in fields.items() if isinstance(value, float))
        self.say(f"{fields['experiment']}: step {fields['experiment_step']}  {figures}")

    def _on_end(self, fields: Mapping[str, Any]) -> None:
        if fields["status"] != "done":
            style = "red" if fields["status"] == "failed" else ""
            self.say(f"{fields['experiment']} {fields['status']}: {fields['reason']}", style=style)
        if self._live is not None and fields["experiment"] in self._tasks:
            self._live.remove_task(self._tasks.pop(fields["experiment"]))

    def _on_answered(self, fields: Mapping[str, Any]) -> None:
        done, total = fields["done"], fields["total"]
        if self.stderr.is_terminal:
            self.stderr.print(f"\ranswered {done} of {total}", end="\n" if done >= total else "")
        elif done >= total or self._is_time():
            self.say(f"answered {done} of {total}")

    def _on_train(self, fields: Mapping[str, Any]) -> None:
        name, step, total = fields["experiment"], fields["experiment_step"], fields["total_steps"]
        begun, first = self._first.setdefault(name, (time.monotonic(), step))
        speed = f"{fields['tokens_per_second']:,.0f} tok/s"
        figures = f"loss {fields['loss']:.4f}  lr {fields['learning_rate']:.2e}  {speed}"
        if step > first:
            left = (time.monotonic() - begun) / (step - first) * (total - step)
            figures += f"  {clock(left)} left"
        if self.stderr.is_terminal:
            self._update_live(name, step, total, figures)
        elif step == total or self._is_time():
            self.say(f"{name}: step {step}/{total}  {figures}")

    def _update_live(self, name: str, step: int, total: int, figures: str) -> None:
        if self._live is None:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[figures]}"),
                console=_Stderr(stderr=True, highlight=False),
                transient=True,
            )
            self._live.start()
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=total, figures="")
        self._live.update(self._tasks[name], completed=step, figures=figures)

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        return True


def clock(seconds: float) -> str:
    """A duration as people write it: 0:45, 12:03, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """A table on stdout; piped, it is as wide as its text, so that nothing is cut."""
    visible = [[cell.translate(VISIBLE) for cell in row] for row in rows]
    stdout = _Stdout(highlight=False)
    if not stdout.is_terminal:
        widest = [max(map(cell_len, column)) + 2 for column in zip(columns, *visible, strict=True)]
        stdout = _Stdout(highlight=False, width=max(80, sum(widest)))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for number, row in enumerate(visible):
        table.add_row(*map(Text, row), style=styles[number] if styles else None)
    stdout.print(table)


def print_findings(findings: Sequence[Finding], *, show_all: bool = False) -> None:
    """What `loraloom check` found, the worst first: a table where there is room, else a paragraph each.

    Args:
        findings: of any checks.
        show_all: also what is in order, which is otherwise counted.
    """
    stdout = _Stdout(highlight=False, soft_wrap=True)
    visible = [f.translated(VISIBLE) for f in findings]
    shown = to_show(visible, show_all=show_all)
    width = _text_width(stdout)
    if stdout.is_terminal and stdout.width >= WIDE:
        print_table(
            ("level", "check", "where", "found", "fix"),
            [(f.level, f.check, f.where, f.message, f.fix) for f in shown],
            [COLOURS[f.level] for f in shown],
        )
    else:
        for finding in shown:
            stdout.print(*paragraph(finding, width, stdout), sep="\n")
    stdout.print(*summary(visible, width, stdout, with_names=not show_all), sep="\n")


def _text_width(stdout: Console) -> int:
    return max(20, min(stdout.width, TEXT_WIDTH))


def print_batch(batch: Sequence[RowView]) -> None:
    """Rows as the model sees them, for the user's own eyes."""
    from loraloom.checks.batch_view import view_lines  # whoever has rows to show has imported torch

    stdout = _Stdout(highlight=False, soft_wrap=True)
    for view in batch:
        for number, line in enumerate(view_lines(view, _text_width(stdout))):
            style = "bold" if number == 0 else "dim" if number == 1 else ""
            for part in Text(line.translate(VISIBLE), style=style).wrap(stdout, _text_width(stdout)):
                part.rstrip()
                stdout.print(part)
        stdout.print()


def print_range_test(found: RangeTest) -> None:
    """Each rate with its eval loss and a bar of what it gained on the base; then the suggestion."""
    stdout = _Stdout(highlight=False, soft_wrap=True)
    # A terminal that draws a bar's cells twice as wide, as some with Chinese fonts do, still holds it.
    widest = min(BAR_WIDTH, max(0, stdout.width - BAR_AT) // 2) if stdout.is_terminal else BAR_WIDTH
    most = max((result.gain or 0 for result in found.results), default=0)
    rows = []
    for result in found.results:
        loss = "not finite" if result.eval_loss is None else f"{result.eval_loss:.4f}"
        change = "" if result.gain is None else f"{0.0 - result.gain:+.4f}"
        bar = "█" * round(widest * max(result.gain or 0, 0) / most) if most > 0 else ""
        rows.append((f"{result.learning_rate:g}", loss, change, bar))
    is_suggested = [result.learning_rate == found.suggestion for result in found.results]
    columns = ("learning rate", "eval loss", "change", f"gained on the base, {found.base_eval_loss:.4f}")
    print_table(columns, rows, ["bold" if each else "" for each in is_suggested])
    stdout.print(Text(found.reason))
    if found.suggestion is not None:
        stdout.print(Text(f"--set training.learning_rate={found.suggestion:g}", style="bold"))


def print_comparison(comparison: Mapping[str, Any], shown_rows: int = 3) -> None:
    """What every adapter does, in a sentence; the figures; some answers side by side."""
    stdout = _Stdout(highlight=False, soft_wrap=True)
    for sentence in comparison["sentences"]:
        stdout.print(Text(sentence, style="bold"))
    if len(comparison["sentences"]) > 1 and "recommendation" in comparison:
        stdout.print(Text(comparison["recommendation"]["sentence"], style="bold"))
    stdout.print()
    models: Mapping[str, Mapping[str, Any]] = comparison["models"]
    groups: Mapping[str, Any] = comparison.get("groups") or {name: {"models": [name]} for name in models}
    keys = list(dict.fromkeys(key for model in models.values() for key in model["figures"]))
    columns = [[models[name]["figures"] for name in group["models"]] for group in groups.values()]
    print_table(
        ("figure", *groups),
        [
            (key, *(_figure_over_seeds(key, [own.get(key) for own in column]) for column in columns))
            for key in keys
        ],
    )
    for row in comparison["rows"][:shown_rows]:
        stdout.print()
        stdout.print(Text(row["source"].translate(VISIBLE), style="bold"))
        for group in groups.values():
            first = group["models"][0]  # of several seeds one speaks; the report shows them all
            stdout.print(Text(f"  {first}: {row['answers'][first]}".translate(VISIBLE)))
        if row["reference"] is not None:
            stdout.print(Text(f"  reference: {row['reference']}".translate(VISIBLE), style="dim"))


def _figure_over_seeds(key: str, values: Sequence[float | None]) -> str:
    """One value as it is, several as mean ± standard deviation."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return _figure(key, known[0] if known else None)
    mean, deviation = _figure(key, statistics.fmean(known)), _figure(key, statistics.stdev(known))
    return f"{mean} ± {deviation}"


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if key.startswith("share_") else f"{value:.4f}"
