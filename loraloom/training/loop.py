"""Training, readable from top to bottom.

One *tick* is one optimizer step of every experiment that is still training: their micro-batches
lie side by side in one pass over the frozen base, one backward pass gives every adapter its own
gradient, and each adapter's own optimizer steps.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from loraloom.bank.dropout import base_dropout
from loraloom.errors import Interrupted
from loraloom.run.events import CheckpointSave, ExperimentEnd, Report
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.evaluation import copy_tensors, evaluate, measure_forgetting
from loraloom.training.exporting import export, export_folder
from loraloom.training.optimizer import optimizer_tensors, weight_norm
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.setup import Setup, Trainee, join, optimized_names
from loraloom.training.state import TrainingState
from loraloom.training.step import take_step


def train(setup: Setup, state: TrainingState, report: Report) -> TrainingState:
    """Train every experiment that has not ended; on return all have, or `setup.pause` asked for it.

    Args:
        setup: what to train on.
        state: at the start, or of a checkpoint; changed in place.
        report: told of every step, evaluation and save.

    Raises:
        Interrupted: a signal came; the checkpoint of this tick is written.
        CheckpointError: a checkpoint could not be written.
        TrainingError: memory does not hold a single row's pass, and that is no experiment's own fault.
        BankError: another thread is using the base.
    """
    asked = setup.shared.base_dropout
    p = setup.bank.base.model_dropout if asked == "model" else float(asked)
    with setup.bank.hold(), base_dropout(setup.bank.base, p):
        for wave in setup.waves:
            trainees = _join_all(setup, [n for n in wave if not _has_left(state, n)], state, report)
            while trainees:
                if not state.unfinished:  # or else a signal came between a step and what follows it
                    take_step(setup, trainees, state, report)
                evaluate(setup, trainees, state, report)
                save = any(_is_save_due(t) for t in trainees)
                for trainee in trainees:
                    _leave_if_ended(setup, trainee, state, report)
                trainees = [t for t in trainees if not _has_left(state, t.name)]
                is_pause = bool(trainees) and setup.pause(state)
                if save or setup.stop or is_pause:
                    _save(setup, trainees, state, report)
                if setup.stop:
                    where = f"stopped and saved after step {state.tick}"
                    how = f"loraloom train --resume {shlex.quote(str(setup.run.folder))} goes on, bit for bit"
                    raise Interrupted(setup.stop.signal_number, f"{where}; {how}")
                if is_pause:
                    _detach(setup, trainees)
                    return state
    return state


def _has_left(state: TrainingState, name: str) -> bool:
    return state.progress[name].has_ended and name not in state.unfinished


def _is_save_due(trainee: Trainee) -> bool:
    """An experiment that ends before its time is saved too, or a resume would train it again."""
    has_ended_early = trainee.progress.has_ended and trainee.experiment.training.save_strategy != "no"
    return has_ended_early or trainee.is_due("save")


def _join_all(setup: Setup, names: Sequence[str], state: TrainingState, report: Report) -> list[Trainee]:
    """Attach the adapters of a wave; one that memory does not hold beside the others fails."""
    trainees = []
    for name in names:
        try:
            trainees.append(join(setup, state, name))
        except (MemoryError, RuntimeError) as error:
            if setup.has_one_experiment or not is_out_of_memory(error):
                raise
            state.progress[name].fail("out of memory: its adapter is too large")
            _end(setup, name, state, report)
    return trainees


def _leave_if_ended(setup: Setup, trainee: Trainee, state: TrainingState, report: Report) -> None:
    """An experiment that has taken its last step leaves the bank; its best becomes its adapter."""
    progress, tensors, bank = trainee.progress, state.tensors[trainee.name], setup.bank
    is_judged = trainee.name not in state.unfinished
    if progress.status == "training" and progress.step >= trainee.timetable.total_steps and is_judged:
        progress.status = "done"
    if not progress.has_ended:
        return
    # Never evaluated, the last is the best there is; of one that failed, if it has learnt and is a number.
    has_learnt = progress.step > 0 and math.isfinite(float(weight_norm(bank.parameters(trainee.name))))
    if not tensors.best and has_learnt:
        tensors.best = copy_tensors(bank.tensors(trainee.name))
        progress.best_step = progress.step
    is_to_be_measured = len(setup.retain_set) and progress.status != "failed"
    if is_to_be_measured and not measure_forgetting(setup, trainee, state, report):
        return
    _end(setup, trainee.name, state, report)


def _end(setup: Setup, name: str, state: TrainingState, report: Report) -> None:
    """Keep what an experiment has learnt, say how it ended, and free its place."""
    progress, tensors = state.progress[name], state.tensors[name]
    tensors.current, tensors.optimizer = {}, {}
    if (kept := export_folder(setup.run, state, name)) is not None:
        export(setup, state, name)
        if progress.status == "failed":
            progress.reason += f"; what it had learnt by step {progress.best_step} is in {kept}"
    report(
        ExperimentEnd(
            step=state.tick,
            experiment=name,
            experiment_step=progress.step,
            status=progress.status,
            reason=progress.reason,
            best_step=progress.best_step,
            best_metric=progress.best_metric,
            forgetting=progress.forgetting,
        )
    )
    if name in setup.bank.slots:
        setup.bank.drop(name)


def _detach(setup: Setup, trainees: Sequence[Trainee]) -> None:
    """Leave the bank empty; what the trainees have learnt is in the state that was just saved."""
    for trainee in trainees:
        setup.bank.drop(trainee.name)


def _save(setup: Setup, trainees: Sequence[Trainee], state: TrainingState, report: Report) -> None:
    for trainee in trainees:
        tensors = state.tensors[trainee.name]
        tensors.current = setup.bank.tensors(trainee.name)
        tensors.optimizer = optimizer_tensors(trainee.optimizer, optimized_names(setup.bank, trainee.name))
    path = save_checkpoint(setup.run.checkpoints, state, keep=setup.shared.save_total_limit)
    report(CheckpointSave(step=state.tick, path=path.name))
