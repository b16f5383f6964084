"""The loop of a search, from the first draw to the last trial.

    settle ──▶ halve ──▶ draw ──▶ train until a trial ends or reaches a rung ──▶ settle ──▶ …

search.json lists every trial before it trains and after it ends, and a checkpoint is saved whenever training
pauses, so after an interruption the same loop starts again with `settle`. Workers may train some of the
trials (`training/spread.py`); only this process draws trials, judges them and writes the run.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError
from torch import Tensor

from loraloom.data.timetable import Timetable
from loraloom.errors import Interrupted
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.search import Trial
from loraloom.run.events import ExperimentEnd, Note, Report, TrialStart
from loraloom.run.folder import Run
from loraloom.search.halving import rung_due, rung_steps, worse_half
from loraloom.search.interruption import interruption, recovered_lanes
from loraloom.search.ledger import trial_name, trial_number
from loraloom.search.request import Request
from loraloom.search.run_recipe import RunRecipe
from loraloom.search.study import FILE as STUDY_FILE
from loraloom.search.study import Study
from loraloom.search.trials import (
    experiments_as_recipe,
    joining,
    ledger_of,
    take_figures,
    trial_experiment,
    valid_experiments,
)
from loraloom.text.message import Message
from loraloom.training.exporting import export, export_folder
from loraloom.training.lanes import MAIN, Lane
from loraloom.training.loop import train as train_loop
from loraloom.training.setup import Setup
from loraloom.training.spread import Spread
from loraloom.training.state import Progress, SlotTensors, TrainingState
from loraloom.training.waves import NoWorkers, WorkerSource


class SearchDriver:
    """A running search: its trials, the lanes they train in, and their progress.

    Args:
        request: the request for the search.
        run: the locked run.
        known: provenance of the run.
        setup: the input of training that all trials share; its bank is empty.
        initial: tensors of the adapters that trials start from, by path.
        report: called with every event.
        source: source of workers; None for a search without workers.
        trains_here: whether this process trains trials too.
    """

    def __init__(
        self,
        request: Request,
        run: Run,
        known: Provenance,
        setup: Setup,
        initial: dict[str, dict[str, Tensor]],
        report: Report,
        source: WorkerSource | None = None,
        *,
        trains_here: bool = True,
    ) -> None:
        self.request, self.run, self.known, self.setup, self.report = request, run, known, setup, report
        self.record = run.recorder(report)
        self.initial = initial
        self.ledger = ledger_of(request, run)
        self.study = Study(
            run.folder / STUDY_FILE, request, higher_is_better=self.ledger.higher_is_better, report=report
        )
        self.experiments = valid_experiments(request, self.ledger.training)
        self.recipe = RunRecipe(request, run, known)
        self.rungs: dict[str, dict[str, int]] = {}
        self.spread = Spread(
            self,
            recovered_lanes(run, self.ledger, self._fresh, self.record),
            source or NoWorkers(),
            capacity=known.together or 0 if trains_here else 0,
            stop=setup.stop,
            record=self.record,
            report=report,
        )

    def complete(self) -> None:
        """Continue until every trial has ended.

        Raises:
            Interrupted: a signal was received; everything is saved.
        """
        self.study.follow(self.ledger.trials)
        if self.ledger.trials:  # recipe.yaml may have fewer, if a process died after a draw
            self.recipe.write(self.ledger.trials)
        try:
            self.spread.complete()
        finally:
            self.spread.pool.close()

    def _fresh(self, name: str) -> tuple[Progress, SlotTensors]:
        """Return the state of a trial before its first step: empty, or with the adapter it starts from."""
        path = self.experiments[name].lora.init_adapter
        return Progress(), SlotTensors(current={} if path is None else dict(self.initial[path]))

    def settle(self, lane: Lane) -> None:
        """Record and release the trials of a lane that have ended, and judge those that reached a rung."""
        state = lane.home_state
        ended = [name for name, progress in state.progress.items() if progress.has_ended]
        for name in ended:
            progress, trial = state.progress[name], self._trial(name)
            folder = export_folder(self.run, state, name)
            if folder is not None and not (self.run.folder / folder).is_dir():
                export(self._current_setup(lane), state, name)
            trial.status = progress.status  # type: ignore[assignment]
            trial.reason = progress.reason
            take_figures(trial, progress)
            self._release(lane, name)
        if ended:
            self._save()
        if self.request.halving:
            self._halve(lane)

    def _halve(self, lane: Lane) -> None:
        """Stop the worse half of the trials that reached a rung."""
        arrived: dict[str, dict[str, float]] = {}
        for trial in self._trials_of(lane):
            progress = lane.home_state.progress[trial.name]
            rung = rung_due(self._rungs(trial.name), progress.step, trial.rungs)
            if rung is not None and progress.best_metric is not None:
                arrived.setdefault(rung, {})[trial.name] = progress.best_metric
        for rung, figures in arrived.items():
            passed = [trial.rungs[rung] for trial in self.ledger.trials if rung in trial.rungs]
            losers = worse_half(figures, passed, higher_is_better=self.ledger.higher_is_better)
            for name, figure in figures.items():
                self._trial(name).rungs[rung] = figure
            for name in losers:
                self._prune(
                    lane,
                    name,
                    Message(
                        "not in the better half of {num_passed} at its first evaluation after "
                        "{rung} % of its steps",
                        num_passed=len(passed) + len(figures),
                        rung=rung,
                    ),
                )
        if arrived:
            self._save()

    def _prune(self, lane: Lane, name: str, reason: str) -> None:
        state, trial = lane.home_state, self._trial(name)
        progress = state.progress[name]
        trial.status, trial.reason = "pruned", reason
        take_figures(trial, progress)
        self._release(lane, name)
        self.record(
            ExperimentEnd(
                step=state.tick,
                experiment=name,
                experiment_step=progress.step,
                status=trial.status,
                reason=reason,
                best_step=progress.best_step,
                best_metric=progress.best_metric,
                forgetting=None,
            )
        )

    @property
    def most_together(self) -> int:
        """Maximum number of trials that train together, so that the sampler has results to learn from."""
        return self.request.most_together

    def has_more(self) -> bool:
        """Return whether more trials are to be drawn."""
        return len(self.ledger.trials) < self.request.num_trials

    def fill(self, lane: Lane, number: int) -> None:
        """Draw trials into a lane until it has the given number of them."""
        before = len(self.ledger.trials)
        while self.has_more() and len(lane.names) < number:
            trial = Trial(trial_name(len(self.ledger.trials)), self.study.draw())
            try:
                self.experiments[trial.name] = trial_experiment(self.request, trial)
            except ValidationError as error:
                trial.status = "failed"
                trial.reason = Message(
                    "the trial's settings are invalid in combination: {msg}", msg=error.errors()[0]["msg"]
                )
            else:
                state = lane.home_state
                state.progress[trial.name], state.tensors[trial.name] = self._fresh(trial.name)
            self.ledger.trials.append(trial)
        if drawn := self.ledger.trials[before:]:
            self._save()
            for trial in drawn:
                self.record(TrialStart(experiment=trial.name, parameters=trial.parameters))
            self.report(Note(message=joining(drawn, len(lane.names))))
            self.recipe.write_soon(self.ledger.trials)

    def recipe_text(self, lane: Lane) -> str:
        """Return the recipe with a lane's trials as its experiments."""
        return experiments_as_recipe(self.request, self._trials_of(lane))

    def breaks_of(self, lane: Lane) -> dict[str, list[int]]:
        """Return the steps of the rungs at which a lane's trials have not been judged yet."""
        if not self.request.halving:
            return {}
        return {
            trial.name: [at for rung, at in self._rungs(trial.name).items() if rung not in trial.rungs]
            for trial in self._trials_of(lane)
        }

    def share_left(self, name: str, step: int) -> float:
        """Return the share of a trial's steps that remains after `step` of them."""
        return 1 - step / self._timetable(name).total_steps

    def train_here(self, lane: Lane) -> None:
        """Train until a trial of a lane ends or reaches a rung, or until the lane is to be divided."""

        def is_break(state: TrainingState) -> bool:
            return self._is_break(lane) or self.spread.must_return(lane)

        setup = replace(self._current_setup(lane), pause=is_break)
        if lane.name != MAIN:
            setup = replace(setup, run=replace(self.run))
            setup.run.checkpoints = lane.folder
        try:
            train_loop(setup, lane.home_state, self.record)
        except Interrupted as stop:
            self.spread.end(stop.signal_number)

    def stopped(self, signal_number: int) -> None:
        """Write recipe.yaml and end the search, so that it can be resumed.

        Raises:
            Interrupted: always.
        """
        self.recipe.write(self.ledger.trials)
        raise interruption(
            self.request,
            self.ledger,
            self.spread.num_steps,
            signal_number or self.setup.stop.signal_number,
        )

    def _is_break(self, lane: Lane) -> bool:
        """Return whether a trial of a lane has ended, or is at a rung and not yet judged there."""
        state = lane.home_state
        if any(progress.has_ended for progress in state.progress.values()):
            return True
        return self.request.halving and any(
            rung_due(self._rungs(trial.name), state.progress[trial.name].step, trial.rungs)
            for trial in self._trials_of(lane)
        )

    def _current_setup(self, lane: Lane) -> Setup:
        """Build the setup for the trials of a lane."""
        return replace(
            self.setup,
            experiments=[self.experiments[name] for name in lane.names],
            waves=[lane.names],
            num_others=self.request.num_trials - len(lane.names),
        )

    def _timetable(self, name: str) -> Timetable:
        return Timetable(self.experiments[name], len(self.setup.train_set))

    def _rungs(self, name: str) -> dict[str, int]:
        if name not in self.rungs:
            self.rungs[name] = rung_steps(self._timetable(name))
        return self.rungs[name]

    def _trial(self, name: str) -> Trial:
        return self.ledger.trials[trial_number(name)]

    def _trials_of(self, lane: Lane) -> list[Trial]:
        return [self._trial(name) for name in lane.names]

    def _release(self, lane: Lane, name: str) -> None:
        del lane.home_state.progress[name], lane.home_state.tensors[name], self.experiments[name]
        self.rungs.pop(name, None)

    def _save(self) -> None:
        """Save the ledger, which is the source of truth, and then bring the study up to date with it."""
        self.ledger.save()
        self.study.follow(self.ledger.trials)
