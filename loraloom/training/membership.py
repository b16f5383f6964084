"""The experiments in the training: how one joins, and how it leaves after its last step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from loraloom.run.events import ExperimentEnd
from loraloom.text.message import Message
from loraloom.training.engine import Engine, Trainee
from loraloom.training.evaluation import copy_tensors, measure_forgetting
from loraloom.training.exporting import export, export_folder
from loraloom.training.optimizer import weight_norm
from loraloom.training.out_of_memory import is_out_of_memory
from loraloom.training.state import TrainingState


def join_all(engine: Engine, wave: Sequence[str]) -> None:
    """Attach the adapters of a wave; an experiment whose adapter does not fit in memory fails."""
    engine.trainees = []
    for name in wave:
        if has_left(engine.state, name):
            continue
        try:
            engine.trainees.append(engine.join(name))
        except (MemoryError, RuntimeError) as error:
            if not engine.setup.can_fail_alone or not is_out_of_memory(error):
                raise
            engine.state.progress[name].fail(Message("out of memory: its adapter is too large"))
            _end(engine, name)


def has_left(state: TrainingState, name: str) -> bool:
    """Return whether an experiment has ended and its last evaluation is done."""
    return state.progress[name].has_ended and name not in state.unfinished


def leave_if_ended(engine: Engine, trainee: Trainee) -> None:
    """Drop an experiment from the bank after its last step; its best adapter becomes its result."""
    progress, tensors, bank = trainee.progress, trainee.tensors, engine.bank
    is_evaluated = trainee.name not in engine.state.unfinished
    if progress.status == "training" and progress.step >= trainee.timetable.total_steps and is_evaluated:
        progress.status = "done"
    if not progress.has_ended:
        return
    # Without an evaluation, the last adapter is the best one; if the experiment failed, only if it is finite.
    has_learnt = progress.step > 0 and math.isfinite(float(weight_norm(bank.parameters(trainee.name))))
    if not tensors.best and has_learnt:
        tensors.best = copy_tensors(bank.tensors(trainee.name))
        progress.best_step = progress.step
    must_measure = len(engine.setup.retain_set) and progress.status != "failed"
    if must_measure and not measure_forgetting(engine, trainee):
        return
    _end(engine, trainee.name)


def _end(engine: Engine, name: str) -> None:
    """Export the adapter of an experiment, report how it ended, and free its slot."""
    state, run = engine.state, engine.setup.run
    progress, tensors = state.progress[name], state.tensors[name]
    tensors.current, tensors.optimizer = {}, {}
    if (folder := export_folder(run, state, name)) is not None:
        export(engine.setup, state, name)
        if progress.status == "failed":
            progress.reason = Message(
                "{reason}; its best adapter, from step {best_step}, is in {folder}",
                best_step=progress.best_step,
                folder=folder,
                reason=progress.reason,
            )
    engine.report(
        ExperimentEnd(
            step=state.tick,
            experiment=name,
            experiment_step=progress.step,
            status=progress.status,
            reason=progress.reason,
            best_step=progress.best_step,
            best_metric=progress.best_metric,
            forgetting=progress.forgetting,
            retain_pairs=progress.retain_pairs,
        )
    )
    if name in engine.bank.slots:
        engine.bank.drop(name)
