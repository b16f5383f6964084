"""Size of each adapter's change relative to the base, with a note if the change is negligible."""

from __future__ import annotations

from loraloom.evaluate.movement import HARDLY_MOVED, movement_of_tensors
from loraloom.run.events import Note, Report
from loraloom.text.message import Message
from loraloom.text.units import percent
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState

DIGITS = 6


def measure_movements(setup: Setup, state: TrainingState, report: Report) -> dict[str, float]:
    """Measure ‖ΔW‖ / ‖W‖ of the best adapter of every experiment that did not fail.

    Args:
        setup: setup of the training; its bank may be empty.
        state: state with the best adapters.
        report: receives a note on each adapter that is almost identical to its base.

    Returns:
        ‖ΔW‖ / ‖W‖ of each of these adapters, by name of the experiment.
    """
    moved = {}
    for experiment in setup.experiments:
        name, best = experiment.name, state.tensors[experiment.name].best
        if state.progress[name].status == "failed" or not best:
            continue
        total = movement_of_tensors(setup.bank, best, experiment.lora).total
        moved[name] = float(f"{total:.{DIGITS}g}")
        if total < HARDLY_MOVED:
            message = Message(
                "{name} is almost identical to its base: ‖ΔW‖/‖W‖ is {total}", name=name, total=percent(total)
            )
            report(
                Note(
                    message=Message(
                        "{message}; its learning rate was {learning_rate:g}",
                        message=message,
                        learning_rate=experiment.training.learning_rate,
                    )
                )
            )
    return moved
