"""How many trials train together: decided once, for the heaviest that can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loraloom.bank.bank import AdapterBank
from loraloom.data.encoding import EncodedSet
from loraloom.recipe import Experiment
from loraloom.search.request import Request
from loraloom.search.space import experiments_of, heaviest
from loraloom.training.plan import USABLE_SHARE, checkpoint_bytes, experiment_bytes, free_bytes


@dataclass(frozen=True)
class Together:
    """How many trials train together, and why.

    Args:
        num_trials: in one pass.
        reason: for provenance.json.
        need_bytes: what one trial adds to the peak, at the most.
        checkpoint_bytes: what a checkpoint of them all takes, at the most.
        free_bytes: what there was to plan with.
    """

    num_trials: int
    reason: str
    need_bytes: int
    checkpoint_bytes: int
    free_bytes: int


def trials_together(
    request: Request, probes: Sequence[Experiment], bank: AdapterBank, train_set: EncodedSet
) -> Together:
    """As many as memory allows and the sampler can use.

    Args:
        probes: an experiment for every value that stands for all.
        bank: on the frozen base.
        train_set: encoded rows.
    """
    experiment = _heaviest(request, probes, bank, train_set)
    need, free = _bytes(experiment, bank, train_set), free_bytes(bank.base.device)
    fitting = max(1, int(free * USABLE_SHARE // need))
    together = min(fitting, request.most_together)
    size = f"one takes at most {need / 2**20:,.0f} MiB, {free / 2**30:.1f} GiB are free"
    reason = f"of {request.num_trials}; {size}"
    if together < min(fitting, request.num_trials):
        reason += "; more would leave the sampler nothing to learn from"
    targets = {experiment.name: bank.targets_of(experiment.lora)}
    return Together(together, reason, need, checkpoint_bytes([experiment], {**targets}) * together, free)


def _bytes(experiment: Experiment, bank: AdapterBank, train_set: EncodedSet) -> int:
    return experiment_bytes(experiment, bank.targets_of(experiment.lora), bank.base, train_set)


def _heaviest(
    request: Request, probes: Sequence[Experiment], bank: AdapterBank, train_set: EncodedSet
) -> Experiment:
    """The experiment that takes the most memory of all that can be drawn."""

    def weight(key: str, value: Any) -> float:
        return _bytes(experiments_of(request.recipe, {"trial": {key: value}})[0], bank, train_set)

    try:
        return experiments_of(request.recipe, {"trial": heaviest(request.space, weight)})[0]
    except ValidationError:  # these do not go together, so nobody draws them: the heaviest probe stands in
        return max(probes, key=lambda probe: _bytes(probe, bank, train_set))
