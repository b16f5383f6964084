"""The Optuna study of a search: `study.db`, and the choice of what to try next.

The study follows search.json. `follow` brings the database up to date with the ledger, even if an earlier
call was interrupted, and recreates a missing database. `draw` works on a copy of the study in memory, with a
sampler seeded for this one trial, so that a resumed search draws what it would have drawn without the
interruption. The copy is made once for all trials that are drawn together.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from loraloom.data.ownership import seed_for
from loraloom.errors import RunError
from loraloom.run.documents.search import FILE as LEDGER_FILE
from loraloom.run.documents.search import Parameters, Trial
from loraloom.run.events import Note, Report
from loraloom.search.request import Request
from loraloom.search.stored_trial import StoredTrial, distribution, label, value_of
from loraloom.search.study_errors import FILE, cause_of, unusable_study
from loraloom.text.message import Message

__all__ = ["FILE", "NAME", "Study"]

NAME = "search"
# Seconds before each new attempt, and how long SQLite itself waits for a lock in each.
DELAYS = (0.2, 0.5, 1.0, 2.0, 4.0)
LOCK_SECONDS = 1.0
# Random trials before the TPE has data; Optuna's own default.
STARTUP_TRIALS = 10
# Minimum number of trials with figures for importances; fewer are not meaningful.
FEWEST_COMPLETE = 10
DRAWS_BEFORE_LISTING = 50

STATES = {
    "training": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "stopped": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_Result = TypeVar("_Result")


class Study:
    """The Optuna study of a search.

    Args:
        file: the database file.
        request: request for the search.
        higher_is_better: whether figures are maximized.
        report: called with a note before each new attempt, if the database cannot be used.
    """

    def __init__(self, file: Path, request: Request, *, higher_is_better: bool, report: Report) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.file = file
        self.request = request
        self.direction = "maximize" if higher_is_better else "minimize"
        self.report = report
        self.distributions = {d.key: distribution(d) for d in request.space.dimensions}
        self._study: optuna.Study | None = None
        # The database's trials; only this process writes them, and Optuna rereads running ones each time.
        self._stored: list[StoredTrial] = []
        # A copy in memory to draw from, its trials, and the trials drawn since the ledger was followed.
        self._twin: optuna.Study | None = None
        self._known: set[tuple[object, ...]] = set()
        self._drawn: list[Parameters] = []

    def follow(self, trials: Sequence[Trial]) -> None:
        """Bring the database up to date with the ledger.

        Raises:
            RunError: the database stays locked or unreadable, or contains other trials.
        """
        self._patiently(lambda: self._follow(trials))

    def draw(self) -> Parameters:
        """Choose, with Optuna, a combination that no trial has had: `{"lora.r": 8, …}`.

        Raises:
            RunError: the database stays locked or unreadable.
        """
        values = next(values for values in self._choices() if self._key(values) not in self._known)
        self._known.add(self._key(values))
        self._drawn.append(values)
        return values

    def _choices(self) -> Iterator[Parameters]:
        """Yield what the sampler draws, then all combinations, in case it draws only known ones."""
        for attempt in range(DRAWS_BEFORE_LISTING):
            if self._twin is None:
                self._patiently(self._copy)
            assert self._twin is not None
            with warnings.catch_warnings(action="ignore"):  # `constant_liar` is experimental since 2.8
                self._twin.sampler = self._sampler(len(self._known), attempt)
                params = self._twin.ask(self.distributions).params
            yield self._values(params)
            self._twin = None  # the copy has one trial too many
        yield from self.request.space.combinations()

    def _copy(self) -> None:
        """Copy the study into memory, with the trials that were drawn since the last `follow`."""
        drawn = [self._frozen(Trial("", values)) for values in self._drawn]
        study = self._opened()
        self._known = {
            self._key(labels)
            for labels in (*(each.labels for each in self._stored), *(each.params for each in drawn))
        }
        self._twin = optuna.create_study(direction=self.direction, sampler=RandomSampler())
        if self.request.sampler != "random":  # which does not look at them
            self._twin.add_trials([*study.get_trials(deepcopy=False), *drawn])

    def _key(self, values: Parameters) -> tuple[object, ...]:
        labels = self._labels(values)
        return tuple(labels[key] for key in self.distributions)

    def importances(self) -> dict[str, float]:
        """Compute the importance of each setting, most important first; empty if that is impossible.

        Source: PED-ANOVA (Watanabe et al., 2023), Optuna's only evaluator that needs no scikit-learn.
        """
        if self._patiently(self._num_complete) < FEWEST_COMPLETE:
            return {}
        with warnings.catch_warnings(action="ignore"):
            try:
                found = self._patiently(
                    lambda: optuna.importance.get_param_importances(
                        self._opened(), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
                    )
                )
            except (ValueError, RuntimeError, ArithmeticError):
                return {}  # for example, all figures are equal
        return found if all(map(math.isfinite, found.values())) else {}

    def _num_complete(self) -> int:
        return len(self._opened().get_trials(deepcopy=False, states=[TrialState.COMPLETE]))

    def _patiently(self, act: Callable[[], _Result]) -> _Result:
        """Perform a database operation; if it fails, for example because of a lock, wait and try again."""
        for delay in (*DELAYS, None):
            try:
                return act()
            except (StorageInternalError, SQLAlchemyError, OSError) as error:
                self._study = None
                cause = cause_of(error)
                if delay is None:
                    raise unusable_study(self.file, cause) from None
                self.report(
                    Note(
                        message=Message(
                            "{name}: {cause}; trying again in {delay:g} s",
                            name=self.file.name,
                            cause=cause,
                            delay=delay,
                        )
                    )
                )
                time.sleep(delay)
        raise AssertionError("the last attempt returns or raises")

    def _opened(self) -> optuna.Study:
        if self._study is None or not self.file.exists():
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.file.resolve()}", engine_kwargs={"connect_args": {"timeout": LOCK_SECONDS}}
            )
            self._study = optuna.create_study(
                storage=storage,
                study_name=NAME,
                direction=self.direction,
                load_if_exists=True,
                sampler=RandomSampler(),  # never used: `draw` uses its own
            )
            self._stored = [StoredTrial.of(trial) for trial in self._study.get_trials(deepcopy=False)]
        return self._study

    def _follow(self, trials: Sequence[Trial]) -> None:
        self._twin, self._drawn = None, []
        study = self._opened()
        ours = [self._labels(trial.parameters) for trial in trials]
        if [trial.labels for trial in self._stored] != ours[: len(self._stored)]:
            raise RunError(
                Message(
                    "the database contains trials that differ from those in {ledger_file}",
                    ledger_file=LEDGER_FILE,
                ),
                where=str(self.file),
                fix=Message(
                    "Move the file elsewhere; it is created again from {ledger_file}.",
                    ledger_file=LEDGER_FILE,
                ),
            )
        for number, (stored, trial) in enumerate(zip(self._stored, trials, strict=False)):
            if not stored.is_finished:
                self._tell(study, number, stored, trial)
        for trial in trials[len(self._stored) :]:
            frozen = self._frozen(trial)
            study.add_trial(frozen)
            self._stored.append(StoredTrial.of(frozen))

    def _tell(self, study: optuna.Study, number: int, stored: StoredTrial, trial: Trial) -> None:
        figures = {int(rung): figure for rung, figure in trial.rungs.items() if int(rung) not in stored.rungs}
        if not figures and not trial.has_ended:
            return
        id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        known = optuna.trial.Trial(study, id)
        for rung, figure in figures.items():
            known.report(figure, rung)
            stored.rungs.add(rung)
        if trial.has_ended:
            known.set_user_attr("reason", trial.reason)
            state = STATES[trial.status]
            values = trial.figure if state is TrialState.COMPLETE else None
            study.tell(number, values, state=state)
            stored.is_finished = True

    def _frozen(self, trial: Trial) -> FrozenTrial:
        """Convert a trial for a database that does not contain it yet."""
        state = STATES[trial.status]
        rungs = {int(rung): figure for rung, figure in trial.rungs.items()}
        last = rungs[max(rungs)] if rungs else None
        return create_trial(
            state=state,
            value={TrialState.COMPLETE: trial.figure, TrialState.PRUNED: last}.get(state),
            params=self._labels(trial.parameters),
            distributions=self.distributions,
            intermediate_values=rungs,
            user_attrs={"reason": trial.reason} if trial.has_ended else {},
        )

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        request = self.request
        if request.sampler == "grid":
            grid = {d.key: [label(value) for value in d.values()] for d in request.space.dimensions}
            return GridSampler(grid, seed=seed_for(request.recipe.seed, "grid") % 2**32)
        seed = seed_for(request.recipe.seed, "trial", number, attempt) % 2**32
        if request.sampler == "random":
            return RandomSampler(seed=seed)
        # Trials in training count as bad ones, so that the next is drawn away from them.
        startup = min(STARTUP_TRIALS, request.most_together)
        return TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)

    def _labels(self, values: Parameters) -> Parameters:
        return {key: label(value) for key, value in values.items()}

    def _values(self, labels: Parameters) -> Parameters:
        return {d.key: value_of(d, labels[d.key]) for d in self.request.space.dimensions}
