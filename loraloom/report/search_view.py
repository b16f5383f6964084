"""The view of search.json for the report: every trial, best first, and how each ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loraloom.report.effects import Level, label_of
from loraloom.report.visible_text import without_folders
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.search import FILE, Parameters, SearchRecord, Trial
from loraloom.run.folder import Run
from loraloom.text.message import Message, joined, marked

# A setting with more values is a range, where a mean at each value would cover only one trial.
MOST_LEVELS = 6
_STATUSES = ("done", "stopped", "training", "pruned", "failed")


@dataclass(frozen=True)
class SearchView:
    """A search as the report shows it.

    Args:
        metric: the metric of the trials.
        best: the trial with the best value; None if no trial was completed.
        trials: completed trials, best first, then those in training, stopped early, or failed, in this order.
        importances: dotted key of a setting → its importance, as a share; empty if it cannot be computed.
        num_asked: requested number of trials.
        sampler: the sampler that chose the trials.
    """

    metric: str
    higher_is_better: bool
    best: str | None
    trials: list[Trial]
    importances: dict[str, float]
    num_asked: int
    sampler: str

    @property
    def keys(self) -> list[str]:
        """The settings that varied, most important first."""
        found = dict.fromkeys(key for trial in self.trials for key in trial.parameters)
        return sorted(found, key=lambda key: -self.importances.get(key, 0.0))

    @property
    def sentence(self) -> str:
        """The result of the search, and how reliable it is."""
        best = next((trial for trial in self.trials if trial.name == self.best), None)
        if best is None or best.figure is None:
            return Message("No trial has been completed.")
        return Message(
            "{name} has the best {metric}, {figure:.4f}, of {counted}. It was selected on the "
            "eval rows, with one seed, so another search may select a different one.",
            name=best.name,
            metric=self.metric,
            figure=best.figure,
            counted=self._counted(),
        )

    def _counted(self) -> str:
        """Describe how many trials were completed, and how the others ended."""
        num_whole = sum(trial.has_adapter for trial in self.trials)
        statuses: Counter[str] = Counter(trial.status for trial in self.trials)
        others = [
            Message(template, number=statuses[status])
            for status, template in (
                ("pruned", marked("{number} stopped early")),
                ("failed", marked("{number} failed")),
            )
            if statuses[status]
        ]
        completed = Message.counting("{count} completed trial", "{count} completed trials", count=num_whole)
        if not others:
            return completed
        return Message("{completed} ({others})", completed=completed, others=joined(", ", others))

    def levels(self, key: str) -> list[Level]:
        """Return the results of trials at each value of a setting with few values; empty if it has many."""
        values: Parameters = {}
        figures: dict[str, dict[str, float]] = {}
        for trial in self.trials:
            if trial.has_adapter and trial.figure is not None and key in trial.parameters:
                label = label_of(trial.parameters[key])
                values[label] = trial.parameters[key]
                figures.setdefault(label, {})[trial.name] = trial.figure
        if len(figures) > MOST_LEVELS:
            return []
        return [Level.of(values[label], own) for label, own in figures.items()]


def read_searched(run: Run, provenance: Provenance, shown_as: Mapping[str, str]) -> SearchView | None:
    """Read a run's search; None if the run is not a search.

    Args:
        provenance: the run's provenance.
        shown_as: absolute paths that search.json may contain -> what to show instead.

    Raises:
        RunError: the file is damaged.
    """
    path = run.folder / FILE
    if not path.is_file():
        return None
    record = SearchRecord.read(path)
    trials = [_without_folders(trial, shown_as) for trial in record.trials]
    trials.sort(key=lambda trial: _rank(trial, record.higher_is_better))
    asked = provenance.search
    return SearchView(
        metric=record.metric,
        higher_is_better=record.higher_is_better,
        best=record.best,
        trials=trials,
        importances=record.importances,
        num_asked=len(trials) if asked is None else asked.trials,
        sampler="" if asked is None else asked.sampler,
    )


def _without_folders(trial: Trial, shown_as: Mapping[str, str]) -> Trial:
    parameters, reason = (without_folders(value, shown_as) for value in (trial.parameters, trial.reason))
    return replace(trial, parameters=parameters, reason=reason)


def _rank(trial: Trial, higher_is_better: bool) -> tuple[int, bool, float]:
    """Return a sort key: completed trials first, best first, then the others by status."""
    group = 0 if trial.has_adapter else 1 + _STATUSES.index(trial.status)
    figure = trial.figure if trial.figure is not None else 0.0
    return group, trial.figure is None, -figure if higher_is_better else figure
