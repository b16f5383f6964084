"""search.json: the record of every trial, which Optuna's study.db follows.

The file is replaced as a whole, before a trial starts and after it ends, so that no crash loses a trial
or trains one twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.run.documents.search import FILE, FORMAT, SearchRecord, Trial
from loraloom.run.folder import Run
from loraloom.run.integrity import write_recorded


def trial_name(number: int) -> str:
    """Return the name of the trial that has this number in Optuna's study.

    >>> trial_name(7)
    'trial-0007'
    """
    return f"trial-{number:04d}"


def trial_number(name: str) -> int:
    """Return the number of a trial from its name.

    >>> trial_number("trial-0007")
    7
    """
    return int(name.rpartition("-")[2])


@dataclass
class Ledger:
    """Every trial so far, in the order in which they were drawn."""

    run: Run
    metric: str
    higher_is_better: bool
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, metric: str, *, higher_is_better: bool) -> Ledger:
        """Load the ledger of a run as last saved; an empty one if no trial has been drawn yet.

        Raises:
            RunError: the file is damaged.
        """
        ledger = cls(run, metric, higher_is_better)
        if ledger.file.exists():
            ledger.trials = SearchRecord.read(ledger.file).trials
        return ledger

    def save(self, importances: Mapping[str, float] | None = None) -> None:
        """Replace search.json.

        Args:
            importances: importance of each setting, once it can be determined.

        Raises:
            RunError: the file cannot be written.
        """
        write_recorded(self.run, self.file, self.record(importances).text())

    @property
    def file(self) -> Path:
        """The run's search.json."""
        return self.run.folder / FILE

    def record(self, importances: Mapping[str, float] | None = None) -> SearchRecord:
        """Build the document that search.json contains."""
        ranking = self.ranking
        return SearchRecord(
            format=FORMAT,
            metric=self.metric,
            higher_is_better=self.higher_is_better,
            best=ranking[0].name if ranking else None,
            trials=self.trials,
            **({} if importances is None else {"importances": dict(importances)}),
        )

    @property
    def training(self) -> list[Trial]:
        """The trials that have not ended."""
        return [trial for trial in self.trials if not trial.has_ended]

    @property
    def ranking(self) -> list[Trial]:
        """The trials with an adapter, best first."""
        return self.ranked([trial for trial in self.trials if trial.has_adapter])

    @property
    def trials_ranked(self) -> list[Trial]:
        """All trials: those with an adapter, then pruned, failed and unfinished ones."""
        pruned = self.ranked([trial for trial in self.trials if trial.status == "pruned"])
        return [*self.ranking, *pruned, *self.failed, *self.training]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """Sort trials by figure, best first; trials without a figure come last."""
        sign = -1 if self.higher_is_better else 1
        return sorted(trials, key=lambda t: (t.figure is None, sign * (t.figure or 0), t.name))
