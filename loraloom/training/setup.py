"""What a training is given, and what it is training: the nouns of `loop.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.updates.kinds import LORA, kind_of
from loraloom.data.encoding import EncodedSet
from loraloom.kernels.dispatch import HAS_TRITON
from loraloom.recipe import Experiment, GenerationSettings, SharedTraining
from loraloom.run.folder import Run, create_run
from loraloom.training.optimizer import AdapterAdamW, make_optimizer, start_optimizer
from loraloom.training.signals import StopRequest
from loraloom.training.state import Moment, Progress, Timetable, TrainingState
from loraloom.training.static_passes import StaticPasses

NO_LIMIT = 2**63
NO_ROWS = EncodedSet([], [])


def never(state: TrainingState) -> bool:
    """A `Setup.pause` that lets training run to its end."""
    return False


@dataclass(frozen=True)
class Setup:
    """All that training needs and does not change.

    Args:
        bank: on the frozen base, empty.
        experiments: to train.
        waves: which of them train together, by name.
        initial: for experiments that go on from an adapter, its tensors.
        train_set, eval_set: encoded rows; the second may be empty.
        shared: the settings that all experiments share.
        generation: how to answer, for generation metrics.
        run: where checkpoints and adapters go.
        eval_references: the eval rows' responses as text, where a metric needs them.
        retain_set: rows to measure forgetting on; may be empty.
        stop: set by a signal.
        num_others: experiments of the run that are not among these.
        pass_tokens: tokens that one pass takes at the most, unless one micro-batch alone has more.
        pause: asked after every tick whether to save and return early, so that the caller may take
            experiments out of the state and put others in before it trains on.
    """

    bank: AdapterBank
    experiments: Sequence[Experiment]
    waves: Sequence[Sequence[str]]
    initial: dict[str, dict[str, torch.Tensor]]
    train_set: EncodedSet
    eval_set: EncodedSet
    shared: SharedTraining
    generation: GenerationSettings
    run: Run
    eval_references: Sequence[str] = ()
    retain_set: EncodedSet = NO_ROWS
    stop: StopRequest = field(default_factory=StopRequest)
    num_others: int = 0
    pass_tokens: int = NO_LIMIT
    pause: Callable[[TrainingState], bool] = never

    @property
    def has_one_experiment(self) -> bool:
        """Whether nothing is left to train where an experiment fails."""
        return len(self.experiments) + self.num_others == 1

    @property
    def waits_once(self) -> bool:
        """Whether to ask the device once a step how all updates went, and not after each.

        Until then every adapter is there twice, which a processor gains nothing by.
        """
        return self.bank.base.device.type == "cuda"

    @cached_property
    def static_passes(self) -> StaticPasses | None:
        """How passes of fixed shapes are computed on a GPU; none where they cannot be or shall not be."""
        shared = self.shared
        base, is_plain = self.bank.base, not shared.gradient_checkpointing and shared.base_dropout == 0
        is_lora = all(kind_of(each.lora) is LORA for each in self.experiments)
        is_possible = base.device.type == "cuda" and HAS_TRITON and base.family.has_static_passes and is_lora
        if not (shared.cuda_graphs and is_plain and is_possible):
            return None
        return StaticPasses(self.bank)


@dataclass
class Trainee:
    """An experiment that is training: its settings, its timetable, its optimizer."""

    experiment: Experiment
    timetable: Timetable
    optimizer: AdapterAdamW
    progress: Progress

    @property
    def name(self) -> str:
        """Of the experiment and of its slot in the bank."""
        return self.experiment.name

    def is_due(self, what: Moment) -> bool:
        """Whether its last step calls for an evaluation (`eval`) or a checkpoint (`save`)."""
        return not self.progress.has_ended and self.timetable.is_due(what, self.progress.step)


def optimized_names(bank: AdapterBank, name: str) -> list[str]:
    """The names of an adapter's tensors in the order in which its optimizer has them."""
    return [tensor for _, named in bank.parameter_groups(name) for tensor in named]


def join(setup: Setup, state: TrainingState, name: str) -> Trainee:
    """Attach an experiment's adapter: fresh, from another adapter, or as a checkpoint has it."""
    experiment = next(e for e in setup.experiments if e.name == name)
    progress, tensors = state.progress[name], state.tensors[name]
    if not progress.has_ended:
        progress.status = "training"
    setup.bank.attach(name, experiment.lora, experiment.seed, tensors.current or setup.initial.get(name))
    optimizer = make_optimizer(setup.bank.parameter_groups(name), experiment.training)
    start_optimizer(optimizer, optimized_names(setup.bank, name), tensors.optimizer)
    return Trainee(experiment, Timetable(experiment, len(setup.train_set)), optimizer, progress)


@contextmanager
def scratch_run() -> Iterator[Run]:
    """A run for a training of which nothing is kept; its folder is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield create_run(Path(folder))
