"""The training loop, readable from top to bottom.

One step of the run is one optimizer step of every experiment that is training: their micro-batches are side
by side in one pass over the frozen base, one backward pass gives each adapter its own gradient, and each
adapter has its own optimizer. `step.py` is the step itself.
"""

from __future__ import annotations

import shlex

from loraloom.bank.dropout import base_dropout
from loraloom.errors import Interrupted
from loraloom.run.events import CheckpointSave, Report
from loraloom.run.folder import Run
from loraloom.text.message import Message
from loraloom.training.checkpoint import save_checkpoint
from loraloom.training.engine import Engine, Trainee
from loraloom.training.evaluation import evaluate
from loraloom.training.membership import has_left, join_all, leave_if_ended
from loraloom.training.optimizer import optimizer_tensors
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.step import take_step


def train(setup: Setup, state: TrainingState, report: Report) -> TrainingState:
    """Train until every experiment has ended, or until `setup.pause` asks to return.

    Args:
        setup: what to train on.
        state: before the first step, or from a checkpoint; changed in place.
        report: receives every step, evaluation and save.

    Raises:
        Interrupted: a signal arrived; the checkpoint of this step is written.
        CheckpointError: a checkpoint could not be written.
        TrainingError: memory does not hold the pass of a single row, and that is no experiment's own fault.
        BankError: another thread is using the base.
    """
    asked, base = setup.shared.base_dropout, setup.bank.base
    p = base.model_dropout if asked == "model" else float(asked)
    engine = Engine(setup, state, report)
    with setup.bank.hold(), base_dropout(base, p):
        for wave in setup.waves:
            join_all(engine, wave)
            while engine.trainees:
                if not state.unfinished:  # otherwise a signal arrived between a step and its evaluation
                    take_step(engine)
                evaluate(engine)
                is_save_due = any(_is_save_due(trainee) for trainee in engine.trainees)
                for trainee in engine.trainees:
                    leave_if_ended(engine, trainee)
                engine.trainees = [t for t in engine.trainees if not has_left(state, t.name)]
                is_pause = bool(engine.trainees) and setup.pause(state)
                if is_save_due or setup.stop or is_pause:
                    _save(engine)
                if setup.stop:
                    raise interruption(setup.run, state.tick, engine.stop.signal_number)
                if is_pause:
                    _detach(engine)
                    return state
    return state


def _is_save_due(trainee: Trainee) -> bool:
    """Return whether to save; an experiment that ends early is saved, or a resume would train it again."""
    has_ended_early = trainee.progress.has_ended and trainee.experiment.training.save_strategy != "no"
    return has_ended_early or trainee.is_due("save")


def _save(engine: Engine) -> None:
    for trainee in engine.trainees:
        name, tensors = trainee.name, trainee.tensors
        tensors.current = engine.bank.tensors(name)
        tensors.optimizer = optimizer_tensors(trainee.optimizer, engine.optimized_names(name))
    setup, state = engine.setup, engine.state
    if setup.ranks.is_leader:
        path = save_checkpoint(setup.run.checkpoints, state, keep=setup.shared.save_total_limit)
        engine.report(CheckpointSave(step=state.tick, path=path.name))


def _detach(engine: Engine) -> None:
    """Empty the bank; what the trainees have learnt is in the state that was just saved."""
    for trainee in engine.trainees:
        engine.bank.drop(trainee.name)


def interruption(run: Run, step: int, signal_number: int) -> Interrupted:
    """Return the end of a training that was asked to stop, and has saved everything."""
    return Interrupted(
        signal_number,
        Message(
            "stopped and saved after step {step}; `loraloom train --resume {folder}` continues, bit for bit",
            step=step,
            folder=shlex.quote(str(run.folder)),
        ),
    )
