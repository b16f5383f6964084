"""search.json: what became of every trial. The readable truth; Optuna's study.db follows it.

It is replaced as a whole, before a trial begins and after it ends, so that whatever dies later no trial
is lost and none is trained twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loraloom.run.documents.search import FILE, FORMAT, SearchRecord, Trial
from loraloom.run.folder import Run
from loraloom.run.integrity import write_recorded


def trial_name(number: int) -> str:
    """Of Optuna's trial of that number.

    >>> trial_name(7)
    'trial-0007'
    """
    return f"trial-{number:04d}"


@dataclass
class Ledger:
    """Every trial so far, in the order in which they were drawn."""

    run: Run
    metric: str
    higher_is_better: bool
    trials: list[Trial] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, metric: str, *, higher_is_better: bool) -> Ledger:
        """A run's ledger as it was last saved; an empty one where nothing was drawn yet.

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
            importances: how much each setting matters, once that can be said.

        Raises:
            RunError: it cannot be written.
        """
        write_recorded(self.run, self.file, self.record(importances).text())

    @property
    def file(self) -> Path:
        """The run's search.json."""
        return self.run.folder / FILE

    def record(self, importances: Mapping[str, float] | None = None) -> SearchRecord:
        """The document."""
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
        """The trials with an adapter, the best first."""
        return self.ranked([trial for trial in self.trials if trial.has_adapter])

    @property
    def trials_ranked(self) -> list[Trial]:
        """All of them: those with an adapter, then the pruned, then the failed."""
        pruned = self.ranked([trial for trial in self.trials if trial.status == "pruned"])
        return [*self.ranking, *pruned, *self.failed, *self.training]

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed."""
        return [trial for trial in self.trials if trial.status == "failed"]

    def ranked(self, trials: Sequence[Trial]) -> list[Trial]:
        """By figure, the best first; those without one last."""
        sign = -1 if self.higher_is_better else 1
        return sorted(trials, key=lambda t: (t.figure is None, sign * (t.figure or 0), t.name))
