"""Progress of a command: a live line if stderr is a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import singledispatchmethod

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from loraloom.console.ending_text import ending_lines
from loraloom.console.finding_text import summary
from loraloom.console.plan_text import plan_lines
from loraloom.console.streams import TEXT_WIDTH, Stderr
from loraloom.console.wrapping import print_text
from loraloom.run.documents.checks import LEVELS, Finding
from loraloom.run.events import (
    AdapterExport,
    AnswerProgress,
    CheckpointDamage,
    CheckResults,
    Evaluation,
    Event,
    ExperimentEnd,
    FileChange,
    MemoryLimit,
    Note,
    Resume,
    RowCounts,
    StepTiming,
    TrainingPlan,
    TrainStep,
    WarningNote,
)
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message, joined
from loraloom.text.units import duration
from loraloom.text.visible import visible

SECONDS_BETWEEN_LINES = 5.0
# Shown even if a command is quiet.
WARNINGS = (WarningNote, FileChange, CheckpointDamage, AdapterExport, MemoryLimit)


class Display:
    """A display of a command's events as they occur, to be passed to the command as its `Report`.

    Args:
        is_quiet: show only `WARNINGS` and findings that are warnings, as for `--json`; errors are raised as
            exceptions instead.
        is_silent: show nothing, because another rank shows the events.
    """

    def __init__(self, *, is_quiet: bool = False, is_silent: bool = False) -> None:
        self.stderr = Stderr(stderr=True, highlight=False)
        self.is_quiet, self.is_silent = is_quiet, is_silent
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, tuple[float, int]] = {}
        self._last_line = 0.0

    def __call__(self, event: Event) -> None:
        """Show an event; only warnings if the display is quiet, and nothing if it is silent."""
        if self.is_silent:
            return
        if not self.is_quiet or isinstance(event, WARNINGS):
            self._show(event)
        elif isinstance(event, CheckResults | TrainingPlan):
            self._show_warnings(event.findings)  # errors are raised

    def close(self) -> None:
        """Restore the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show_warnings(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            if finding.level == "warning":
                self.say(finding.line, style="yellow")

    def say(self, message: str, *, style: str = "") -> None:
        """Print a message on stderr, above the live line; long lines are wrapped only on a terminal.

        Args:
            message: text or a message, which is rendered in the user's language.
            style: a style of the `rich` library.
        """
        print_text(self.stderr, Text(visible(rendered(message)), style=style))

    def next_command(self, command: str) -> None:
        """Print the command to run next, as a last line without breaks, so that it can be copied whole."""
        if not self.is_quiet:
            said = Text(visible(rendered(Message("Next: {command}", command=command))), style="bold")
            self.stderr.print(said, soft_wrap=True)

    @singledispatchmethod
    def _show(self, event: Event) -> None:
        """Ignore an event of a kind that is not shown."""

    @_show.register
    def _(self, event: Note) -> None:
        self.say(Message("note: {message}", message=event.message))

    @_show.register
    def _(self, event: WarningNote) -> None:
        self.say(Message("warning: {message}", message=event.message), style="yellow")

    @_show.register
    def _(self, event: RowCounts) -> None:
        self.say(
            Message(
                "{train} rows to train on, {eval} eval, {test} test",
                train=event.train,
                eval=event.eval,
                test=event.test,
            )
        )

    @_show.register
    def _(self, event: CheckResults) -> None:
        for finding in event.findings:
            if finding.level in ("warning", "error") or finding.check == "targets":
                self.say(finding.line)
        counts = next(summary(event.findings, TEXT_WIDTH, with_names=False))
        said = Message("{num_findings} checks: {counts}", num_findings=len(event.findings), counts=counts)
        if any(finding.level == "note" and finding.check != "targets" for finding in event.findings):
            said = Message("{said}; `loraloom check` shows the notes", said=said)
        self.say(said)

    @_show.register
    def _(self, event: TrainingPlan) -> None:
        for key, choice in event.choices.items():
            self.say(Message("{key}: {value} ({reason})", key=key, value=choice.value, reason=choice.reason))
        if event.plan is not None:
            for line in plan_lines(event.plan, min(self.stderr.width, TEXT_WIDTH)):
                self.say(line)
        for finding in event.findings:
            if finding.level != "ok":
                self.say(
                    Message(
                        "{level}: {message}. {fix}",
                        level=LEVELS[finding.level],
                        message=finding.message,
                        fix=finding.fix,
                    ),
                    style="bold yellow",
                )
        self.say(Message("run: {folder}", folder=event.folder))

    @_show.register
    def _(self, event: StepTiming) -> None:
        if self.stderr.is_terminal:
            self.say(Message("timing one step …"), style="dim")

    @_show.register
    def _(self, event: Resume) -> None:
        self.say(Message("resuming after step {step}: {reason}", step=event.step, reason=event.reason))

    @_show.register
    def _(self, event: AdapterExport) -> None:
        self.say(
            Message(
                "adapters/{experiment} is written again: {reason}",
                experiment=event.experiment,
                reason=event.reason,
            ),
            style="yellow",
        )

    @_show.register
    def _(self, event: FileChange) -> None:
        self.say(
            Message(
                "warning: {path} has changed since the run wrote it: {what}", path=event.path, what=event.what
            ),
            style="yellow",
        )

    @_show.register
    def _(self, event: MemoryLimit) -> None:
        if event.phase == "training":
            now: str = Message(
                "{pass_tokens:,} tokens per pass; a step still uses the same rows",
                pass_tokens=event.pass_tokens,
            )
            what: str = Message(
                "in step {step} with {tried:,} tokens per pass; from now on at most {now}",
                step=event.step,
                tried=event.tried,
                now=now,
            )
        elif event.phase == "lifted":
            now = Message("that experiment fails, and the others continue as if it had not existed")
            what = Message(
                "in step {step} with the adapter of {experiment}: {now}",
                step=event.step,
                experiment=event.experiment,
                now=now,
            )
        else:
            now = Message("{eval_rows}, which does not change any figure", eval_rows=event.eval_rows)
            what = Message(
                "in the evaluation after step {step} with {tried} rows at once; from now on at most {now}",
                step=event.step,
                tried=event.tried,
                now=now,
            )
        self.say(Message("warning: memory ran out {what}", what=what), style="yellow")

    @_show.register
    def _(self, event: CheckpointDamage) -> None:
        self.say(
            Message(
                "warning: checkpoint {path} is not used: {problem}", path=event.path, problem=event.problem
            ),
            style="yellow",
        )

    @_show.register
    def _(self, event: Evaluation) -> None:
        epoch = Message("epoch {epoch:.4f}", epoch=event.epoch)
        figures = joined("  ", (epoch, *(f"{key} {value:.4f}" for key, value in event.figures.items())))
        self.say(
            Message(
                "{experiment}: step {experiment_step}  {figures}",
                experiment=event.experiment,
                experiment_step=event.experiment_step,
                figures=figures,
            )
        )

    @_show.register
    def _(self, event: ExperimentEnd) -> None:
        for text, style in ending_lines(event):
            self.say(text, style=style)
        if self._live is not None and event.experiment in self._tasks:
            self._live.remove_task(self._tasks.pop(event.experiment))

    @_show.register
    def _(self, event: AnswerProgress) -> None:
        # Whole lines on a terminal too, where answers, notes and errors may follow at any time.
        if event.done >= event.total or self._is_time():
            self.say(Message("answered {done} of {total}", done=event.done, total=event.total))

    @_show.register
    def _(self, event: TrainStep) -> None:
        name, step, total = event.experiment, event.experiment_step, event.total_steps
        started, first = self._first.setdefault(name, (time.monotonic(), step))
        speed = Message("{tokens_per_second:,.0f} tok/s", tokens_per_second=event.tokens_per_second)
        figures = Message(
            "loss {loss:.4f}  lr {learning_rate:.2e}  {speed}",
            loss=event.loss,
            learning_rate=event.learning_rate,
            speed=speed,
        )
        if step > first:
            left = (time.monotonic() - started) / (step - first) * (total - step)
            figures = Message("{figures}  {left} left", left=duration(left), figures=figures)
        if self.stderr.is_terminal:
            self._update_live(name, step, total, figures)
        elif step == total or self._is_time():
            self.say(
                Message(
                    "{name}: step {step}/{total}  {figures}",
                    name=name,
                    step=step,
                    total=total,
                    figures=figures,
                )
            )

    def _update_live(self, name: str, step: int, total: int, figures: str) -> None:
        if self._live is None:
            self._live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.fields[figures]}"),
                console=self.stderr,
                transient=True,
            )
            self._live.start()
        if name not in self._tasks:
            self._tasks[name] = self._live.add_task(name, total=total, figures="")
        self._live.update(self._tasks[name], completed=step, figures=rendered(figures))

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        return True
