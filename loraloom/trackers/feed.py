"""Feeding a run's events to its trackers, none of which can stop or slow training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from loraloom.errors import Problem, RecipeError, RunError
from loraloom.recipe import Recipe
from loraloom.recipe.tracker_names import TrackerName
from loraloom.run.atomic import replace_text
from loraloom.run.documents.trackers import FILE, FOLDER, FORMAT, TrackerRuns
from loraloom.run.events import Event, ExperimentEnd, Note, Report, WarningNote
from loraloom.run.folder import Run
from loraloom.text.message import Message
from loraloom.trackers.process import TrackerProcess
from loraloom.trackers.tracker_kinds import ONE_RUN_A_PROCESS, is_installed
from loraloom.trackers.tracker_run import Ending

# Seconds that a finished training waits for its trackers; MLflow takes ten seconds to start.
SECONDS_AT_THE_END = 60.0
SECONDS_AFTER_A_STOP = 20.0
# A wait up to this long is not reported.
SECONDS_UNSAID = 1.0

Settings = dict[str, str | int | float | bool]


def require_trackers(recipe: Recipe) -> None:
    """Refuse a recipe that asks for a tracker that is not installed.

    Raises:
        RecipeError: names each such tracker, and how to install it.
    """
    problems = [
        Problem(
            Message("the tracker {name} is not installed", name=name),
            where="training.report_to",
            fix=Message("Install it: pip install 'loraloom[{name}]'. Or write report_to: none.", name=name),
        )
        for name in recipe.training.report_to
        if not is_installed(name)
    ]
    if problems:
        raise RecipeError(problems)


@contextmanager
def tracked(run: Run, recipe: Recipe, base: str, report: Report) -> Iterator[Report]:
    """Pass events on to `report` and to the trackers that a recipe names.

    Args:
        run: the run; its folder stores the id that each tracker gave to each experiment.
        recipe: its recipe.
        base: name of the recipe's base, without local paths.
        report: called with every event, and with a warning if a tracker fails.
    """
    if not recipe.training.report_to:
        yield report
        return
    feed = _Feed(run, recipe, base, report)
    try:
        yield feed
    except BaseException:
        feed.close("stopped", SECONDS_AFTER_A_STOP)
        raise
    feed.close("done", SECONDS_AT_THE_END)


class _Feed:
    """A `Report` that also feeds trackers."""

    def __init__(self, run: Run, recipe: Recipe, base: str, report: Report) -> None:
        self._run, self._report = run, report
        self._folder = run.folder.resolve() / FOLDER
        self._warned: set[str] = set()
        self._processes: dict[tuple[str, str], TrackerProcess] = {}
        self._ids = self._known_ids()
        common = _flat({"model": base, "lora": recipe.lora.model_dump(), "training": _training(recipe)})
        self._start = {
            "group": run.folder.resolve().name,
            "folder": str(self._folder),
            "common": common,
            "settings": _settings(recipe, base),
        }
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            for name in recipe.training.report_to:
                self._warn(name, str(error))
            self._names: tuple[TrackerName, ...] = ()
            return
        self._names = tuple(recipe.training.report_to)
        names = ", ".join(self._names)
        report(Note(message=Message("{names}: output is in {folder}", names=names, folder=self._folder)))
        for name in self._names:
            if name not in ONE_RUN_A_PROCESS:
                self._launch(name, "")

    def __call__(self, event: Event) -> None:
        """Report an event and, if it is about an experiment, send it to the trackers."""
        self._report(event)
        experiment = getattr(event, "experiment", None)
        if experiment is None:
            return
        for name in self._names:
            part = experiment if name in ONE_RUN_A_PROCESS else ""
            if (name, part) not in self._processes:
                self._launch(name, part)
            process = self._processes.get((name, part))
            if process is not None:
                process.send(event)
                if part and isinstance(event, ExperimentEnd):
                    process.end("done", time.monotonic())
        self._take_answers()

    def close(self, ending: Ending, seconds: float) -> None:
        """Wait for all trackers, within a time limit."""
        deadline = time.monotonic() + seconds
        try:
            for process in self._processes.values():
                process.end(ending, deadline)
            self._report_a_wait(deadline)
            for process in self._processes.values():
                if problem := process.wait(deadline):
                    self._warn(process.tracker, problem)
        finally:  # also if Ctrl-C ends the wait, where signals are the caller's
            for process in self._processes.values():
                process.kill()
        self._take_answers()

    def _report_a_wait(self, deadline: float) -> None:
        """Report which trackers are being waited for, unless they all end within a moment."""
        soon = min(deadline, time.monotonic() + SECONDS_UNSAID)
        while (slow := self._running()) and time.monotonic() < soon:
            time.sleep(0.05)
        if slow:
            seconds = round(max(0.0, deadline - time.monotonic()))
            message = Message(
                "waiting for {names}, at most {seconds} s; the run itself is saved",
                names=", ".join(slow),
                seconds=seconds,
            )
            self._report(Note(message=message))

    def _running(self) -> list[str]:
        running = (process.tracker for process in self._processes.values() if process.is_running)
        return list(dict.fromkeys(running))

    def _launch(self, name: str, part: str) -> None:
        start: dict[str, Any] = {**self._start, "ids": self._ids.get(name, {})}
        try:
            log_file = self._folder / f"{name}.log"
            self._processes[name, part] = TrackerProcess(name, start, log_file)
        except OSError as error:
            self._names = tuple(other for other in self._names if other != name)
            self._warn(name, str(error))

    def _take_answers(self) -> None:
        for process in self._processes.values():
            for answer in process.answers():
                if "problem" in answer:
                    self._warn(process.tracker, answer["problem"])
                else:
                    self._ids.setdefault(process.tracker, {})[answer["experiment"]] = answer["id"]
                    self._write_ids(process.tracker)

    def _warn(self, name: str, problem: str) -> None:
        """Warn, once for each tracker, that it does not show everything in the run."""
        if name in self._warned:
            return
        self._warned.add(name)
        message = Message(
            "{name} does not show all of this run: {problem:sentence} Training is not affected, and "
            "events.jsonl has everything; what {name} printed is in {log}.",
            name=name,
            problem=problem,
            log=self._folder / f"{name}.log",
        )
        self._report(WarningNote(message=message))

    def _known_ids(self) -> dict[str, dict[str, str]]:
        with suppress(RunError):  # a tracker then gets a new run
            return {name: dict(ids) for name, ids in TrackerRuns.read(self._folder / FILE).runs.items()}
        return {}

    def _write_ids(self, name: str) -> None:
        try:
            replace_text(self._folder / FILE, TrackerRuns(format=FORMAT, runs=self._ids).text())
        except OSError as error:
            self._warn(name, str(error))


def _settings(recipe: Recipe, base: str) -> dict[str, Settings]:
    """Return the settings of each experiment, without names of data files, which may be private."""
    return {
        each.name: _flat(
            {
                "model": base,
                "seed": each.seed,
                "lora": each.lora.model_dump(),
                "training": each.training.model_dump(exclude={"report_to"}),
            }
        )
        for each in recipe.resolved_experiments
    }


def _training(recipe: Recipe) -> dict[str, Any]:
    return recipe.training.model_dump(exclude={"report_to"})


def _flat(values: Mapping[str, Any], prefix: str = "") -> Settings:
    flat: Settings = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[prefix + key] = ", ".join(map(str, value))
        elif value is not None:
            flat[prefix + key] = value
    return flat
