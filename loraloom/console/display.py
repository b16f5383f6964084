"""Progress of a command: a live line if stderr is a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from loraloom.checks.finding import Finding
from loraloom.checks.listing import summary
from loraloom.console.streams import TEXT_WIDTH, VISIBLE, Stderr
from loraloom.forecast.plan_text import plan_lines

SECONDS_BETWEEN_LINES = 5.0
# Shown even if a command is quiet.
WARNINGS = ("changed", "damaged", "export", "memory")


class Display:
    """Shows the events of a command as they occur; call it as a `Report`.

    Args:
        is_quiet: show only `WARNINGS` (`--json`).
    """

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.stderr = Stderr(stderr=True, highlight=False, soft_wrap=True)
        self.is_quiet = is_quiet
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._first: dict[str, tuple[float, int]] = {}
        self._last_line = 0.0

    def __call__(self, event: str, **fields: Any) -> None:
        """Show one event, unless people do not need to see it."""
        show = getattr(self, f"_on_{event}", None)
        if show is not None and (not self.is_quiet or event in WARNINGS):
            show(fields)

    def close(self) -> None:
        """Restore the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, message: str, *, style: str = "") -> None:
        """Print a line on stderr, above the live one."""
        target = self._live.console if self._live is not None else self.stderr
        target.print(Text(message.translate(VISIBLE), style=style))

    def next_command(self, command: str) -> None:
        """Print the last line of a command."""
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
                self.say(finding.line)
        counts = next(summary(findings, TEXT_WIDTH, self.stderr, with_names=False))
        self.say(f"{len(findings)} checks: {counts}")

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
            now = f"{fields['pass_tokens']:,} tokens per pass; a step still uses the same rows"
            what = f"in step {step} with {tried:,} tokens per pass; from now on at most {now}"
        elif fields["phase"] == "lifted":
            now = "it fails, and the others continue as if it had not existed"
            what = f"in step {step} with the adapter of {fields['experiment']}: {now}"
        else:
            now = f"{fields['eval_rows']}, which does not change any figure"
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
                console=Stderr(stderr=True, highlight=False),
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
    """Format a duration: 0:45, 12:03, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
