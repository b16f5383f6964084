"""Choice of the experiments that train together: as many at once as fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraloom.bank.bank import AdapterBank
from loraloom.base.available_memory import free_bytes
from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet
from loraloom.forecast.footprint import Counter
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
    """What one experiment adds to the peak memory.

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
        needs: need of each experiment.
        pass_tokens: maximum number of tokens in one pass through the base, unless one experiment's
            micro-batch has more.
        free_bytes: memory that was available for the plan.
    """

    waves: tuple[tuple[str, ...], ...]
    needs: dict[str, Need]
    pass_tokens: int
    free_bytes: int

    @property
    def wave_bytes(self) -> int:
        """Bytes that the largest wave adds to what is already loaded."""
        waves = ([self.needs[name] for name in wave] for wave in self.waves)
        return max(wave_bytes(needs, self.pass_tokens) for needs in waves)

    @property
    def reason(self) -> str:
        """The reason for these waves."""
        together = (
            Message("all experiments fit in memory together")
            if len(self.waves) == 1
            else Message("fewer waves do not fit in memory")
        )
        return Message(
            "{together}: {wave_bytes} in addition to the base, {free_bytes} free",
            together=together,
            wave_bytes=size(self.wave_bytes),
            free_bytes=size(self.free_bytes),
        )


def pass_tokens(base: Base) -> int:
    """Return how many tokens of several experiments share one pass through the base."""
    if base.device.type != "cpu":
        return PASS_TOKENS_GPU
    return max(1, PASS_NUMBERS_CPU // max(base.dimensions.d_stream))


def wave_bytes(needs: Sequence[Need], tokens: int) -> int:
    """Return what experiments that train together add: all adapters, and the activations of one pass."""
    per_token = max(need.activation_bytes / max(1, need.num_tokens) for need in needs)
    together = min(sum(need.activation_bytes for need in needs), int(per_token * tokens))
    return sum(need.adapter_bytes for need in needs) + max(
        together, max(need.activation_bytes for need in needs)
    )


def num_fitting(need: Need, tokens: int, free: int, most: int) -> int:
    """Return how many experiments of equal need fit in memory together, at most a number of them.

    Args:
        need: of each.
        tokens: maximum number of tokens in one pass.
        free: bytes of memory that are free.
        most: the largest number of interest.
    """
    numbers = range(1, most + 1)
    return sum(wave_bytes([need] * number, tokens) <= free * USABLE_SHARE for number in numbers)


def experiment_need(experiment: Experiment, counter: Counter) -> Need:
    """Compute what one experiment adds to the peak memory."""
    largest = counter.largest_pass([experiment], pass_tokens=0)
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
    needs = {each.name: experiment_need(each, counter) for each in experiments}
    waves: list[list[str]] = [[]]
    for name in needs:
        together = [needs[other] for other in (*waves[-1], name)]
        if waves[-1] and wave_bytes(together, tokens) > free * USABLE_SHARE:
            waves.append([])
        waves[-1].append(name)
    return Plan(tuple(tuple(wave) for wave in waves), needs, tokens, free)


def placed(names: Sequence[str], devices: Sequence[str], most: int) -> list[tuple[str, list[str]]]:
    """Return the experiments that each device begins with.

    Args:
        names: of the experiments, in order.
        devices: the first one is that of the process of the run.
        most: how many experiments memory holds together.
    """
    share = min(most, -(-len(names) // len(devices)))
    return [
        (device, list(names[number * share : (number + 1) * share])) for number, device in enumerate(devices)
    ]
