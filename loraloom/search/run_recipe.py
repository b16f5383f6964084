"""recipe.yaml of a running search: its trials as experiments, for every command that reads a run."""

from __future__ import annotations

import time
from collections.abc import Sequence

from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.search import Trial
from loraloom.run.folder import Run
from loraloom.run.integrity import write_recorded
from loraloom.search.request import Request
from loraloom.search.trials import experiments_as_recipe, valid_experiments

# With thousands of trials, writing takes seconds; it may take at most this share of the time.
SHARE = 0.05
QUICK_SECONDS = 0.1


class RunRecipe:
    """The recipe of a run, and the seeds in its provenance.

    Args:
        request: the search.
        run: the locked run.
        known: provenance of the run.
    """

    def __init__(self, request: Request, run: Run, known: Provenance) -> None:
        self.request, self.run, self.known = request, run, known
        self._seconds = self._written = 0.0

    def write(self, trials: Sequence[Trial]) -> None:
        """Write trials as the run's experiments, except those with invalid settings."""
        started = time.monotonic()
        seeds = {name: each.seed for name, each in valid_experiments(self.request, trials).items()}
        valid = [trial for trial in trials if trial.name in seeds]
        write_recorded(self.run, self.run.recipe_file, experiments_as_recipe(self.request, valid))
        write_recorded(self.run, self.run.provenance_file, self.known.replaced(seeds=seeds).text())
        self._written = time.monotonic()
        self._seconds = self._written - started

    def write_soon(self, trials: Sequence[Trial]) -> None:
        """Write trials as `write` does, unless writing is slow and was last done only a moment ago."""
        age = time.monotonic() - self._written
        if self._seconds < QUICK_SECONDS or age * SHARE > self._seconds:
            self.write(trials)
