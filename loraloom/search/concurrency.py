"""The number of trials that train together: chosen once, for the trials that need the most memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from loraloom.bank.bank import AdapterBank
from loraloom.base.available_memory import free_bytes
from loraloom.data.encoding import EncodedSet
from loraloom.forecast.footprint import Counter
from loraloom.forecast.plan import (
    USABLE_SHARE,
    Need,
    experiment_need,
    fitting_limit,
    num_fitting,
    pass_tokens,
    shared_tokens,
)
from loraloom.recipe import Experiment
from loraloom.search.request import Request
from loraloom.search.space import experiments_of, heaviest
from loraloom.text.message import Message
from loraloom.text.units import size


@dataclass(frozen=True)
class TrialConcurrency:
    """Number of trials that train together, and the reason.

    Args:
        num_trials: number of trials in one pass.
        reason: explanation for provenance.json.
        heaviest: the experiment that needs the most memory of all that can be drawn.
        need: memory that this experiment adds to the peak.
        free_bytes: free memory at the time of planning, in bytes.
        pass_limit: maximum number of tokens in a pass; None if a whole micro-batch fits in memory.
    """

    num_trials: int
    reason: str
    heaviest: Experiment
    need: Need
    free_bytes: int
    pass_limit: int | None


def choose_trial_concurrency(
    request: Request, probes: Sequence[Experiment], bank: AdapterBank, train_set: EncodedSet
) -> TrialConcurrency:
    """Choose how many trials train together: as many as fit in memory, up to `request.most_together`.

    Args:
        request: the search.
        probes: one experiment for every representative value.
        bank: a bank on the frozen base.
        train_set: encoded training rows.
    """
    counter = Counter(bank, train_set)
    free = free_bytes(bank.base.device)
    experiment, need, limit = heaviest_experiment(request, probes, counter, free)
    tokens = shared_tokens(pass_tokens(bank.base), limit)
    fitting = num_fitting(need, tokens, free, request.num_trials) or 1
    together = min(fitting, request.most_together)
    one = need.adapter_bytes + need.activation_bytes
    memory = Message("one trial takes at most {one}, and {free} are free", one=size(one), free=size(free))
    reason = Message("of {num_trials}; {memory}", num_trials=request.num_trials, memory=memory)
    if together < min(fitting, request.num_trials):
        reason = Message("{reason}; with more, the sampler would have nothing to learn from", reason=reason)
    return TrialConcurrency(together, reason, experiment, need, free, limit)


def heaviest_experiment(
    request: Request, probes: Sequence[Experiment], counter: Counter, free: int
) -> tuple[Experiment, Need, int | None]:
    """Find the experiment that needs the most memory of all that can be drawn.

    Args:
        request: the search.
        probes: one experiment for every representative value.
        counter: computes the memory that an experiment needs, with this base and these training rows.
        free: free memory in bytes.

    Returns:
        The experiment, its need, and the maximum number of tokens in a pass, which is None if its whole
        micro-batch fits in memory.
    """

    def weight(experiment: Experiment) -> int:
        need = experiment_need(experiment, counter)
        return need.adapter_bytes + need.activation_bytes

    def weight_of(key: str, value: Any) -> int:
        return weight(experiments_of(request.recipe, {"trial": {key: value}})[0])

    try:
        experiment = experiments_of(request.recipe, {"trial": heaviest(request.space, weight_of)})[0]
    except ValidationError:  # this combination is invalid and cannot be drawn; use the heaviest probe instead
        experiment = max(probes, key=weight)
    limit = fitting_limit([experiment], counter, free * USABLE_SHARE)
    return experiment, experiment_need(experiment, counter, limit), limit
