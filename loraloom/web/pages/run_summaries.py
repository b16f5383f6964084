"""The entries of the list of runs: state, verdict and key figures of each."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.errors import LoRALoomError
from loraloom.report.comparison_reading import read_compared
from loraloom.report.comparison_view import ComparisonView
from loraloom.report.figures import written
from loraloom.run.documents.comparison import BASE_NAME, DECIDING
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.result import Result
from loraloom.run.folder import LOCK_FILE, Run, list_runs
from loraloom.run.lock import is_held
from loraloom.run.resuming import is_range_test, is_search
from loraloom.text.message import Message
from loraloom.text.units import duration

STATES = {
    "working": Message("working"),
    "stopped": Message("stopped"),
    "done": Message("done"),
    "some failed": Message("some failed"),
    "failed": Message("failed"),
    "damaged": Message("damaged"),
}
VERDICTS = {
    "better": Message("better"),
    "worse": Message("worse"),
    "did nothing": Message("did nothing"),
    "unclear": Message("unclear"),
}
"""States and verdicts as people read them; the keys are also the classes of their colours."""


@dataclass(frozen=True)
class RunSummary:
    """One row of the list of runs.

    Args:
        name: name of the run's folder.
        state: a key of `STATES`.
        kind: kind of run: training, search or range test.
        can_be_compared: whether it has, or will have, adapters.
        started: start time with time zone; "" if the run cannot be read.
        base: name of the base.
        experiments: names of its experiments.
        verdict: a key of `VERDICTS`; "" if nothing was compared.
        sentence: the verdict in a sentence.
        figures: label and value of each key figure.
        problem: why the run cannot be read; "" if it can.
    """

    name: str
    state: str
    kind: str = ""
    can_be_compared: bool = False
    started: str = ""
    base: str = ""
    experiments: tuple[str, ...] = ()
    verdict: str = ""
    sentence: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    @property
    def state_word(self) -> str:
        """The state of the run in words, for people."""
        return STATES[self.state]

    @property
    def verdict_word(self) -> str:
        """The verdict in words, for people; "" if there is none."""
        return VERDICTS[self.verdict] if self.verdict else ""


@dataclass
class RunSummaries:
    """The runs in a folder, with summaries that are cached until the files of the run change.

    Args:
        folder: the folder of the runs.
    """

    folder: Path
    _known: dict[str, tuple[object, RunSummary]] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def runs(self) -> list[Run]:
        """List the runs, newest first."""
        return list_runs(self.folder)[::-1]

    def find(self, name: str) -> Run | None:
        """Return the run whose folder has this name; the name is looked up, never joined to a path."""
        return next((run for run in list_runs(self.folder) if run.folder.name == name), None)

    def summaries(self, runs: Sequence[Run]) -> list[RunSummary]:
        """Return the summaries of some runs."""
        return [self.summary(run) for run in runs]

    def summary(self, run: Run) -> RunSummary:
        """Return the summary of a run; if the run is damaged, the summary says so."""
        state = _files_state(run)
        with self._mutex:
            known = self._known.get(run.folder.name)
        if known is not None and known[0] == state:
            return known[1]
        made = summarize(run)
        with self._mutex:
            self._known[run.folder.name] = state, made
        return made


def _files_state(run: Run) -> object:
    """Return a value that changes whenever the run's files or its lock change."""
    files = [run.recipe_file, run.provenance_file, run.result_file, run.comparisons]
    if run.comparisons.is_dir():
        files += sorted(run.comparisons.glob("*.json"))
    seen = [(path.name, stat.st_mtime_ns, stat.st_size) for path in files if (stat := _stat(path))]
    return is_held(run.folder / LOCK_FILE), tuple(seen)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def summarize(run: Run) -> RunSummary:
    """Describe a run from its files."""
    name = run.folder.name
    is_active = is_held(run.folder / LOCK_FILE)
    try:
        provenance = Provenance.read(run.provenance_file)
        result = Result.read(run.result_file) if run.is_finished else None
        compared = None if is_range_test(run) else read_compared(run, None)
    except LoRALoomError as error:
        return RunSummary(name, "damaged", problem=error.as_message())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return RunSummary(
            name, "damaged", problem=Message("a file cannot be read: {error}", error=repr(error))
        )
    verdict, sentence = _verdict(compared)
    return RunSummary(
        name=name,
        state="working" if is_active else _state(result),
        kind=_kind(run),
        can_be_compared=not is_range_test(run),
        started=provenance.started,
        base="" if provenance.base is None else provenance.base.name,
        experiments=tuple(provenance.seeds),
        verdict=verdict,
        sentence=sentence,
        figures=tuple(_figures(result, compared)),
    )


def _state(result: Result | None) -> str:
    if result is None:
        return "stopped"
    if not result.failed:
        return "done"
    return "failed" if len(result.failed) == len(result.experiments) else "some failed"


def _kind(run: Run) -> str:
    if is_range_test(run):
        return Message("range test")
    return Message("search") if is_search(run) else Message("training")


def _verdict(compared: ComparisonView | None) -> tuple[str, str]:
    """Return the verdict on the recommended experiment, or else on the first in the ranking."""
    if compared is None or not compared.verdicts:
        return "", ""
    first = compared.recommended or next(iter(compared.ranking), compared.verdicts[0].experiment)
    words = {each.experiment: each for each in compared.verdicts}
    own = words.get(first, compared.verdicts[0])
    return own.word if own.word in VERDICTS else "unclear", compared.recommendation or own.sentence


def _figures(result: Result | None, compared: ComparisonView | None) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    if compared is not None:
        best = compared.recommended or next(iter(compared.ranking), "")
        base, own = (compared.figures.get(name, {}).get(DECIDING) for name in (BASE_NAME, best))
        if base is not None and own is not None:
            found.append((Message("chrF"), f"{written(DECIDING, base)} → {written(DECIDING, own)}"))
    if result is not None:
        losses = [each.best_metric for each in result.experiments.values() if each.best_metric is not None]
        if losses and compared is None:
            found.append((Message("best figure"), f"{min(losses):.4g}"))
        found.append((Message("time"), duration(result.wall_seconds)))
    return found
