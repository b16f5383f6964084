"""Choice of the experiments that train together, and of the maximum size of a pass, by available memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.bank.bank import AdapterBank
from loraloom.base.available_memory import free_bytes
from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet
from loraloom.forecast.footprint import Counter, training_phase
from loraloom.recipe import Experiment
from loraloom.text.message import Message
from loraloom.text.units import size

# Share of the free memory; the rest is for the allocator, evaluation and other programs.
USABLE_SHARE = 0.8
# A GPU is idle without many tokens. On a processor, sharing a pass saves overhead, not arithmetic, so a
# pass is only large enough to hide the overhead, which takes fewer tokens if each is more work: numbers
# in a hidden state of all tokens together. Measured with eight adapters on two cores: a quarter of this
# takes 1.2 times the time on the starter (d_model 256), half of it 1.1 times, eight times as much 0.97
# times; on mt5-small's shape (d_model 512) from half to eight times as much differ by less than the noise.
PASS_TOKENS_GPU = 32_768
PASS_NUMBERS_CPU = 1 << 18


@dataclass(frozen=True)
class Need:
    """The contribution of one experiment to the peak memory.

    Args:
        adapter_bytes: adapter, gradient and AdamW's two moments, in memory all the time.
        activation_bytes: activations of its largest micro-batch, in memory during its pass.
        num_tokens: source and target tokens of that micro-batch.
    """

    adapter_bytes: int
    activation_bytes: int
    num_tokens: int


@dataclass(frozen=True)
class Plan:
    """The experiments that train together, and the predicted memory.

    Args:
        waves: names of experiments, wave by wave.
        needs: memory that each experiment needs, by name.
        pass_tokens: maximum number of tokens in one pass through the base, unless one experiment's
            micro-batch has more.
        free_bytes: memory that was available when the plan was made.
        pass_limit: maximum number of tokens in any pass of more than one row; None if every whole
            micro-batch fits in memory.
    """

    waves: tuple[tuple[str, ...], ...]
    needs: dict[str, Need]
    pass_tokens: int
    free_bytes: int
    pass_limit: int | None = None

    @property
    def sizes(self) -> dict[str, Any]:
        """The maximum size of a pass, in the form that `Setup` takes."""
        return {"pass_tokens": self.pass_tokens, "pass_limit": self.pass_limit}

    @property
    def wave_bytes(self) -> int:
        """The bytes that the largest wave adds to what is already loaded."""
        waves = ([self.needs[name] for name in wave] for wave in self.waves)
        tokens = shared_tokens(self.pass_tokens, self.pass_limit)
        return max(wave_bytes(needs, tokens) for needs in waves)

    @property
    def reason(self) -> str:
        """The reason for these waves."""
        together = (
            Message("all experiments fit in memory together")
            if len(self.waves) == 1
            else Message("larger waves would not fit in memory")
        )
        return Message(
            "{together}: {wave_bytes} in addition to the base, {free_bytes} free",
            together=together,
            wave_bytes=size(self.wave_bytes),
            free_bytes=size(self.free_bytes),
        )


def pass_tokens(base: Base) -> int:
    """Return the maximum number of tokens in a pass that several experiments share."""
    if base.device.type != "cpu":
        return PASS_TOKENS_GPU
    return max(1, PASS_NUMBERS_CPU // max(base.dimensions.d_stream))


def shared_tokens(tokens: int, limit: int | None) -> int:
    """Return the maximum number of tokens in a pass that experiments share, given a limit on all passes."""
    return tokens if limit is None else min(tokens, limit)


def wave_bytes(needs: Sequence[Need], tokens: int) -> int:
    """Return the bytes that experiments need to train together: all adapters, and one pass's activations."""
    per_token = max(need.activation_bytes / max(1, need.num_tokens) for need in needs)
    together = min(sum(need.activation_bytes for need in needs), int(per_token * tokens))
    return sum(need.adapter_bytes for need in needs) + max(
        together, max(need.activation_bytes for need in needs)
    )


def num_fitting(need: Need, tokens: int, free: int, most: int) -> int:
    """Return how many experiments of equal need fit in memory together, up to a maximum.

    Args:
        need: need of one experiment.
        tokens: maximum number of tokens in one pass.
        free: bytes of memory that are free.
        most: the largest number to try.
    """
    numbers, usable = range(1, most + 1), free * USABLE_SHARE
    return bisect_right(numbers, usable, key=lambda number: wave_bytes([need] * number, tokens))


def fitting_limit(experiments: Sequence[Experiment], counter: Counter, usable: float) -> int | None:
    """Find a limit on the tokens of a pass that lets each experiment, trained alone, fit in memory.

    Larger micro-batches are then computed in several passes, with the same result (`training/passes.py`).

    Args:
        experiments: experiments of the recipe.
        counter: counter for base and rows.
        usable: bytes that training may take in addition to what is loaded.

    Returns:
        The limit, at least the tokens of the longest row; None if whole micro-batches fit.
    """
    found: int | None = None
    lengths = counter.train_set.source_lengths + counter.train_set.target_lengths
    for experiment in experiments:
        while training_phase(counter, [experiment], 0, found).bytes > usable:
            tokens = counter.largest_pass([experiment], 0, found).num_tokens
            narrower = max(tokens // 2, int(lengths.max()))
            if narrower >= tokens:
                break
            found = narrower
    return found


def experiment_need(experiment: Experiment, counter: Counter, limit: int | None = None) -> Need:
    """Compute what one experiment adds to the peak memory; `limit` as in `plan_passes`."""
    largest = counter.largest_pass([experiment], 0, limit)
    return Need(counter.training_bytes(experiment), largest.kept_bytes, largest.num_tokens)


def make_plan(
    experiments: Sequence[Experiment],
    base: Base,
    examples: EncodedSet,
    budget: int | None = None,
) -> Plan:
    """Divide experiments into as few waves as memory allows, in the order of the recipe.

    Args:
        experiments: experiments of the recipe.
        base: the base, without adapters.
        examples: the train set.
        budget: bytes to plan with; by default the free memory of the device.
    """
    free = free_bytes(base.device) if budget is None else budget
    tokens, counter = pass_tokens(base), Counter(AdapterBank(base), examples)
    limit = fitting_limit(experiments, counter, free * USABLE_SHARE)
    needs = {each.name: experiment_need(each, counter, limit) for each in experiments}
    waves: list[list[str]] = [[]]
    for name in needs:
        together = [needs[other] for other in (*waves[-1], name)]
        if waves[-1] and wave_bytes(together, shared_tokens(tokens, limit)) > free * USABLE_SHARE:
            waves.append([])
        waves[-1].append(name)
    return Plan(tuple(tuple(wave) for wave in waves), needs, tokens, free, limit)


def placed(names: Sequence[str], devices: Sequence[str], most: int) -> list[tuple[str, list[str]]]:
    """Return each device with the experiments that it trains first.

    Args:
        names: names of the experiments, in order.
        devices: the devices; the first one is that of the run's own process.
        most: largest number of experiments that fit in the memory of one device.
    """
    share = min(most, -(-len(names) // len(devices)))
    return [
        (device, list(names[number * share : (number + 1) * share])) for number, device in enumerate(devices)
    ]
