"""The tracker process: it reads a run's events from its standard input, and writes them to the tracker.

    in   {"tracker": "wandb", "group": …, "folder": …, "settings": {…}, "ids": {…}}   first
         {"event": "train", "experiment": "wide", …}                                 lines of events.jsonl
         {"ending": "done"}                                                          last
    out  {"experiment": "wide", "id": "3f9c2a10"}       a run was started
         {"problem": "OperationalError: …"}             the first one only

If the input ends without an `ending` line, the training was killed. What the tracker prints goes to standard
error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from loraloom.run.events import ExperimentEnd, TrialStart, read_event
from loraloom.trackers.tracker_figures import figures_of
from loraloom.trackers.tracker_kinds import start_run_of
from loraloom.trackers.tracker_run import Ending, TrackedExperiment, TrackerRun

ENDINGS: Mapping[str, Ending] = {"failed": "failed"}  # of an experiment's statuses; the others are `done`


class Worker:
    """The runs of a tracker, one for each experiment.

    Args:
        start: the first line of the input.
        answers: stream for messages to the training process.
    """

    def __init__(self, start: Mapping[str, Any], answers: TextIO) -> None:
        self._start, self._answers = start, answers
        self._settings: dict[str, dict[str, Any]] = dict(start["settings"])
        self._runs: dict[str, TrackerRun | None] = {}
        self._has_problem = False

    def read(self, lines: Iterable[str]) -> None:
        """Read events and write them to the tracker, until the input says how training ended."""
        ending: Ending = "stopped"
        for line in lines:
            values = json.loads(line)
            if "ending" in values:
                ending = values["ending"]
                break
            self._write(values)
        for name in list(self._runs):
            self._finish(name, ending)

    def _write(self, values: Mapping[str, Any]) -> None:
        event = read_event(values)
        if isinstance(event, TrialStart):
            common = self._start.get("common", {})
            self._settings[event.experiment] = {**common, **dict(event.parameters)}
        found = None if event is None else figures_of(event)
        if found is None:
            return
        if found.experiment not in self._runs:
            self._runs[found.experiment] = self._open(found.experiment, found.step)
        run = self._runs[found.experiment]
        if run is not None and found.values:
            with self._problems_reported():
                run.log(found.step, found.values)
        if isinstance(event, ExperimentEnd):
            self._finish(found.experiment, ENDINGS.get(event.status, "done"))

    def _open(self, name: str, step: int) -> TrackerRun | None:
        experiment = TrackedExperiment(
            name=name,
            group=self._start["group"],
            folder=Path(self._start["folder"]),
            settings=self._settings.get(name, {}),
            run_id=self._start["ids"].get(name),
        )
        opened: list[TrackerRun] = []
        with self._problems_reported():
            opened.append(start_run_of(self._start["tracker"])(experiment, step))
            self._answer({"experiment": name, "id": opened[0].run_id})
        return opened[0] if opened else None

    def _finish(self, name: str, ending: Ending) -> None:
        run = self._runs[name]
        self._runs[name] = None
        if run is not None:
            with self._problems_reported():
                run.finish(ending)

    @contextlib.contextmanager
    def _problems_reported(self) -> Iterator[None]:
        """Report the first problem of the tracker and continue, because later calls may succeed."""
        try:
            yield
        except (Exception, SystemExit) as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            if not self._has_problem:
                self._has_problem = True
                self._answer({"problem": f"{type(error).__name__}: {error}"})

    def _answer(self, values: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(values) + "\n")
        self._answers.flush()


def main() -> None:
    """Run until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        getattr(os, "nice", int)(5)  # the training has priority; Windows has no such call
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a tracker may print, which must not be mixed with answers
    lines = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    Worker(json.loads(next(lines)), answers).read(lines)


if __name__ == "__main__":
    main()
