"""Movement of the base by each experiment, reported at the end of training if it is negligible."""

from __future__ import annotations

from loraloom.evaluate.movement import HARDLY_MOVED, movement_of_tensors
from loraloom.run.events import Note, Report
from loraloom.text.units import percent
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState

DIGITS = 6


def measure_movements(setup: Setup, state: TrainingState, report: Report) -> dict[str, float]:
    """‖ΔW‖ / ‖W‖ of the adapter of every experiment that did not fail.

    Args:
        setup: with the bank, which may be empty.
        state: whose best adapters are measured.
        report: told of adapters that are nearly the base.
    """
    moved = {}
    for experiment in setup.experiments:
        name, best = experiment.name, state.tensors[experiment.name].best
        if state.progress[name].status == "failed" or not best:
            continue
        total = movement_of_tensors(setup.bank, best, experiment.lora).total
        moved[name] = float(f"{total:.{DIGITS}g}")
        if total < HARDLY_MOVED:
            message = f"{name} is hardly anything but its base: ‖ΔW‖/‖W‖ is {percent(total)}"
            report(Note(message=f"{message}; its learning rate was {experiment.training.learning_rate:g}"))
    return moved
