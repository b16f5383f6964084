"""The engine: the object that holds a training in progress. Everything else in this package works on it.

For example, `loop.py` takes its training steps, and `evaluation.py` evaluates its adapters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from loraloom.bank.bank import AdapterBank
from loraloom.data.timetable import Moment, Timetable
from loraloom.recipe import Experiment
from loraloom.run.events import MemoryLimit, Report
from loraloom.training.optimizer import AdapterAdamW, make_optimizer, start_optimizer
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest
from loraloom.training.state import Progress, SlotTensors, TrainingState


class SignalReceivedError(Exception):
    """A signal arrived in the middle of a step or an evaluation, whose unfinished work is discarded."""


@dataclass
class Trainee:
    """An experiment that is training, with its settings, timetable and optimizer.

    Args:
        experiment: its settings.
        timetable: the rows and learning rate of each step, and when evaluations and saves are due.
        optimizer: optimizer of its adapter.
        progress: its progress, part of the training state.
        tensors: its tensors, part of the training state.
    """

    experiment: Experiment
    timetable: Timetable
    optimizer: AdapterAdamW
    progress: Progress
    tensors: SlotTensors

    @property
    def name(self) -> str:
        """The name of the experiment and of its slot in the bank."""
        return self.experiment.name

    def is_due(self, what: Moment) -> bool:
        """Return whether an evaluation (`eval`) or a checkpoint (`save`) is due after the latest step."""
        return not self.progress.has_ended and self.timetable.is_due(what, self.progress.step)


@dataclass
class Engine:
    """A training in progress.

    Args:
        setup: the inputs of the training, which do not change.
        state: state of the training, which a checkpoint contains.
        report: receives every event.
        trainees: the experiments that are training now; their adapters are in the bank.
    """

    setup: Setup
    state: TrainingState
    report: Report
    trainees: list[Trainee] = field(default_factory=list)

    @property
    def bank(self) -> AdapterBank:
        """The adapters on the frozen base."""
        return self.setup.bank

    @property
    def stop(self) -> StopRequest:
        """The cancellation token, set by a signal or by the calling program."""
        return self.setup.stop

    def join(self, name: str) -> Trainee:
        """Attach an experiment's adapter to the bank: a new one, a copy of another, or one from a checkpoint.

        Returns:
            The experiment, ready to train; it is not among `trainees` yet.
        """
        experiment, setup = self.setup.experiment(name), self.setup
        progress, tensors = self.state.progress[name], self.state.tensors[name]
        if not progress.has_ended:
            progress.status = "training"
        initial = tensors.current or setup.initial.get(name)
        self.bank.attach(name, experiment.lora, experiment.seed, initial)
        optimizer = make_optimizer(self.bank.parameter_groups(name), experiment.training)
        if (change := self.bank.gradient_change(name)) is not None:
            optimizer.register_step_pre_hook(lambda *_: change())
        start_optimizer(optimizer, self.optimized_names(name), tensors.optimizer)
        timetable = Timetable(experiment, len(setup.train_set))
        return Trainee(experiment, timetable, optimizer, progress, tensors)

    def optimized_names(self, name: str) -> list[str]:
        """Return the names of an adapter's tensors in the order of its optimizer."""
        return [tensor for _, named in self.bank.parameter_groups(name) for tensor in named]

    def report_limit(
        self,
        step: int,
        phase: Literal["training", "evaluation", "lifted"],
        tried: int,
        experiment: str | None = None,
    ) -> None:
        """Report the new limits on the passes of a step and on the batches of the evaluation after it.

        Args:
            step: step of the run, from 1.
            phase: what ran out of memory, or `lifted` if an experiment failed and its limits are void.
            tried: number of tokens in the pass, or of rows in the batch, that did not fit in memory.
            experiment: the experiment that failed, if `phase` is `lifted`.
        """
        limits = self.state.limits_at(step)
        self.report(
            MemoryLimit(
                step=step,
                phase=phase,
                experiment=experiment,
                tried=tried,
                pass_tokens=limits.pass_tokens,
                eval_rows=limits.eval_rows,
            )
        )
