"""The loop of a search, from the first draw to the last trial.

    settle ──▶ halve ──▶ draw ──▶ train until a trial ends or reaches a rung ──▶ settle ──▶ …

search.json lists every trial before it trains and after it ends, and every break is a checkpoint, so
after an interruption the same loop resumes from its first line.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace

from pydantic import ValidationError
from torch import Tensor

from loraloom.errors import Interrupted
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.result import Result
from loraloom.run.documents.search import Trial
from loraloom.run.events import CheckpointDamage, ExperimentEnd, Note, Report, Resume, TrialStart
from loraloom.run.folder import Run
from loraloom.run.integrity import write_recorded
from loraloom.search.halving import rung_due, rung_steps, worse_half
from loraloom.search.ledger import trial_name
from loraloom.search.request import Request
from loraloom.search.study import FILE as STUDY_FILE
from loraloom.search.study import Study
from loraloom.search.trials import (
    experiments_as_recipe,
    ledger_of,
    trial_experiment,
    valid_experiments,
)
from loraloom.text.message import Message
from loraloom.text.units import counted
from loraloom.training.checkpoint import newest_valid
from loraloom.training.exporting import export
from loraloom.training.loop import train as train_loop
from loraloom.training.setup import Setup
from loraloom.training.state import Progress, SlotTensors, TrainingState
from loraloom.training.timetable import Timetable


class SearchDriver:
    """A running search: its trials, which of them are in the bank, and their progress."""

    def __init__(
        self,
        request: Request,
        run: Run,
        known: Provenance,
        setup: Setup,
        initial: dict[str, dict[str, Tensor]],
        report: Report,
    ) -> None:
        self.request, self.run, self.known, self.setup, self.report = request, run, known, setup, report
        self.record = run.recorder(report)
        self.initial = initial
        self.ledger = ledger_of(request, run)
        self.study = Study(
            run.folder / STUDY_FILE, request, higher_is_better=self.ledger.higher_is_better, report=report
        )
        self.experiments = valid_experiments(request, self.ledger.trials)
        self.rungs: dict[str, dict[str, int]] = {}
        self.state = self._recovered_state()

    def complete(self) -> None:
        """Continue until every trial has ended.

        Raises:
            Interrupted: a signal was received; everything is saved.
        """
        self.study.follow(self.ledger.trials)
        if self.state.unfinished:  # a signal arrived between a step and its evaluation
            self._train()
        while True:
            self._settle()
            if self.request.halving:
                self._halve()
            self._draw()
            if not self.ledger.training:
                return
            if self.setup.stop:
                self._stop()
            self._train()

    def _recovered_state(self) -> TrainingState:
        """Load the state of unfinished trials from the newest checkpoint."""
        state, verdicts = newest_valid(self.run.checkpoints)
        for verdict in verdicts:
            if verdict.problem:
                self.record(CheckpointDamage(path=verdict.folder.name, problem=verdict.problem))
        names = [trial.name for trial in self.ledger.training]
        if names or verdicts:
            step, reason = (
                (0, Message("no checkpoint is intact"))
                if state is None
                else (state.tick, Message("the newest checkpoint"))
            )
            ended = len(self.ledger.trials) - len(names)
            self.record(
                Resume(
                    step=step,
                    reason=Message(
                        "{reason}; {ended} trials have ended, {num_names} are resumed",
                        reason=reason,
                        ended=ended,
                        num_names=len(names),
                    ),
                )
            )
        fresh = TrainingState.at_start(names)
        if self.run.is_finished:  # more trials are asked for; steps count on from those that it took
            fresh = replace(fresh, tick=Result.read(self.run.result_file).steps)
        state = state or fresh
        state.replay(self.run.events())
        return replace(
            state,
            progress={name: state.progress.get(name, fresh.progress[name]) for name in names},
            tensors={name: state.tensors.get(name, fresh.tensors[name]) for name in names},
        )

    def _settle(self) -> None:
        """Record the trials that have ended, and release them."""
        ended = [name for name, progress in self.state.progress.items() if progress.has_ended]
        for name in ended:
            progress, trial = self.state.progress[name], self._trial(name)
            if progress.status != "failed" and not (self.run.adapters / name).is_dir():
                export(self._current_setup(), self.state, name)
            trial.status = progress.status  # type: ignore[assignment]
            trial.reason = progress.reason
            _take_figures(trial, progress)
            self._release(name)
        if ended:
            self._save()

    def _halve(self) -> None:
        """Stop the worse half of the trials that reached a rung."""
        arrived: dict[str, dict[str, float]] = {}
        for trial in self.ledger.training:
            progress = self.state.progress[trial.name]
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

    def _prune(self, name: str, reason: str) -> None:
        progress, trial = self.state.progress[name], self._trial(name)
        trial.status, trial.reason = "pruned", reason
        _take_figures(trial, progress)
        self._release(name)
        self.record(
            ExperimentEnd(
                step=self.state.tick,
                experiment=name,
                experiment_step=progress.step,
                status=trial.status,
                reason=reason,
                best_step=progress.best_step,
                best_metric=progress.best_metric,
                forgetting=None,
            )
        )

    def _draw(self) -> None:
        """Fill free slots with new trials."""
        before = len(self.ledger.trials)
        while self._has_place():
            trial = Trial(trial_name(len(self.ledger.trials)), self.study.draw())
            try:
                self.experiments[trial.name] = trial_experiment(self.request, trial)
            except ValidationError as error:
                trial.status = "failed"
                trial.reason = Message(
                    "its settings are invalid in combination: {msg}", msg=error.errors()[0]["msg"]
                )
            else:
                self.state.progress[trial.name], self.state.tensors[trial.name] = Progress(), SlotTensors()
            self.ledger.trials.append(trial)
            self._save()
            self.record(TrialStart(experiment=trial.name, parameters=trial.parameters))
        if drawn := self.ledger.trials[before:]:
            together = counted(len(self.ledger.training), "trial")
            if len(drawn) == 1:
                message = Message(
                    "{trial} joins: {together} in one pass", trial=drawn[0].name, together=together
                )
            else:
                message = Message(
                    "{first} to {last} join: {together} in one pass",
                    first=drawn[0].name,
                    last=drawn[-1].name,
                    together=together,
                )
            self.report(Note(message=message))
        self.write_recipe(self.ledger.trials)

    def _has_place(self) -> bool:
        is_asked_for = len(self.ledger.trials) < self.request.num_trials
        return is_asked_for and len(self.ledger.training) < (self.known.together or 0)

    def _train(self) -> None:
        """Train until a trial ends or reaches a rung."""
        setup = replace(self._current_setup(), pause=self._is_break)
        try:
            train_loop(setup, self.state, self.record)
        except Interrupted as stop:
            self._stop(stop.signal_number)

    def _stop(self, signal_number: int = 0) -> None:
        ended = len(self.ledger.trials) - len(self.ledger.training)
        where = Message("stopped and saved after step {tick}", tick=self.state.tick)
        so_far = Message(
            "{ended} of {num_trials} trials have ended", ended=ended, num_trials=self.request.num_trials
        )
        option = Message("--resume {quote}", quote=shlex.quote(str(self.run.folder)))
        how = Message("to resume, run the same command with {option} instead of --out", option=option)
        raise Interrupted(
            signal_number or self.setup.stop.signal_number,
            Message("{where}, {so_far}; {how}", where=where, so_far=so_far, how=how),
        )

    def _is_break(self, state: TrainingState) -> bool:
        """Return whether a slot is free or a trial is at a rung."""
        if any(progress.has_ended for progress in state.progress.values()):
            return True
        return self.request.halving and any(
            rung_due(self._rungs(trial.name), state.progress[trial.name].step, trial.rungs)
            for trial in self.ledger.training
        )

    def _current_setup(self) -> Setup:
        """Build the setup for the trials in the bank."""
        experiments = [self.experiments[name] for name in self.state.progress]
        initial = {
            e.name: self.initial[e.lora.init_adapter] for e in experiments if e.lora.init_adapter is not None
        }
        return replace(
            self.setup,
            experiments=experiments,
            waves=[list(self.state.progress)],
            initial=initial,
            num_others=self.request.num_trials - len(experiments),
        )

    def _rungs(self, name: str) -> dict[str, int]:
        if name not in self.rungs:
            self.rungs[name] = rung_steps(Timetable(self.experiments[name], len(self.setup.train_set)))
        return self.rungs[name]

    def _trial(self, name: str) -> Trial:
        return next(trial for trial in self.ledger.trials if trial.name == name)

    def _release(self, name: str) -> None:
        del self.state.progress[name], self.state.tensors[name]

    def _save(self) -> None:
        """Save the ledger first: it is the source of truth that the study follows."""
        self.ledger.save()
        self.study.follow(self.ledger.trials)

    def write_recipe(self, trials: Sequence[Trial]) -> None:
        """Write the run's recipe with the trials as its experiments, for every command that reads a run."""
        write_recorded(self.run, self.run.recipe_file, experiments_as_recipe(self.request, trials))
        trials = [trial for trial in trials if trial.name in self.experiments]
        seeds = {trial.name: self.experiments[trial.name].seed for trial in trials}
        write_recorded(self.run, self.run.provenance_file, self.known.replaced(seeds=seeds).text())


def _take_figures(trial: Trial, progress: Progress) -> None:
    trial.steps, trial.best_step, trial.figure = progress.step, progress.best_step, progress.best_metric
    trial.forgetting = progress.forgetting
