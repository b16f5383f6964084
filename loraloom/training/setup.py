"""The inputs of training, which do not change while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.data.encoding import EncodedSet
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.recipe import Experiment, GenerationSettings, SharedTraining
from loraloom.run.folder import Run, create_run
from loraloom.run.scratch import scratch_folder
from loraloom.training.recording_limits import can_be_recorded, why_not_recorded
from loraloom.training.signals import StopRequest
from loraloom.training.state import TrainingState
from loraloom.training.static_passes import StaticPasses

NO_LIMIT = 2**63
NO_ROWS = EncodedSet([], [])


def never(state: TrainingState) -> bool:
    """Return False, so that training runs to its end; the default of `Setup.pause`."""
    return False


@dataclass(frozen=True)
class Setup:
    """Everything that training needs but does not change.

    Args:
        bank: an empty bank on the frozen base.
        experiments: experiments to train.
        waves: for each wave, the names of the experiments that train together.
        initial: tensors of the adapters that experiments start from, by experiment.
        train_set, eval_set: encoded rows; `eval_set` may be empty.
        shared: the settings that all experiments share.
        generation: settings for generating answers, for generation metrics.
        run: run that checkpoints and adapters are written to.
        eval_references: the responses of the eval rows as text, if a metric needs them.
        retain_set: rows to measure forgetting on; may be empty.
        stop: cancellation token, set by a signal or by the calling program.
        num_others: number of the run's experiments that are not in `experiments`.
        pass_tokens: maximum number of tokens in a pass that several experiments share.
        pass_limit: maximum number of tokens of any pass, as predicted to fit in memory; None for no limit.
        ranks: the processes that train together.
        pause: called after every step; returns whether to save and return early, so that the caller may
            exchange experiments in the state before it continues training.
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
    pass_limit: int | None = None
    ranks: Ranks = ONE_PROCESS
    pause: Callable[[TrainingState], bool] = never

    @property
    def has_one_experiment(self) -> bool:
        """Whether there is only one experiment, so that nothing is left to train if it fails."""
        return len(self.experiments) + self.num_others == 1

    @property
    def can_fail_alone(self) -> bool:
        """Whether a lack of memory can fail a single experiment: there are others, but only one process."""
        return not self.has_one_experiment and self.ranks.size == 1

    @property
    def shares_rows(self) -> bool:
        """Whether each rank evaluates its own rows; ranks that share a base all evaluate the same rows."""
        return self.ranks.size > 1 and not self.bank.base.is_sharded

    @property
    def waits_once(self) -> bool:
        """Whether to query the device for the results of updates once per step, not after each update.

        Until the query, the weights before the update are kept too; a CPU would gain nothing by waiting.
        """
        return self.bank.base.device.type == "cuda"

    @cached_property
    def static_passes(self) -> StaticPasses | None:
        """The runner of fixed-shape passes on a GPU; None if they are impossible or `cuda_graphs` is off."""
        shared = self.shared
        if not shared.cuda_graphs or why_not_recorded(self.bank.base, shared) is not None:
            return None
        if not all(can_be_recorded(each.lora) for each in self.experiments):
            return None
        return StaticPasses(self.bank)

    def experiment(self, name: str) -> Experiment:
        """Return the experiment of this name."""
        return next(each for each in self.experiments if each.name == name)


@contextmanager
def scratch_run() -> Iterator[Run]:
    """Create a run for a training whose results are discarded; its folder is removed afterwards."""
    with scratch_folder() as folder:
        yield create_run(folder)
