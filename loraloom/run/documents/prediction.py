"""What a training will take, as provenance.json keeps it: memory, time and room on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from loraloom.run.documents.document import JsonObject


@dataclass(frozen=True)
class Memory:
    """The predicted peak, on the device that trains.

    Args:
        peak_bytes: of the whole process; loading and the checks may have had it already.
        loaded_bytes: there before the first step: libraries, base, rows.
        base_bytes: of that, the frozen weights.
        phase: which part of the work takes the most beside it: training, evaluation, answers or saving.
        parts: bytes of that phase by what for, the largest first.
        free_bytes: what can be taken beside what is loaded.
        pass_limit: most tokens of a pass, if a whole micro-batch does not fit; None if it does.
    """

    peak_bytes: int
    loaded_bytes: int
    base_bytes: int
    phase: str
    parts: Mapping[str, int]
    free_bytes: int
    pass_limit: int | None = None

    @property
    def needed_bytes(self) -> int:
        """Beside what is loaded."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Pace:
    """How long the steps take; evaluations are not in it.

    Args:
        step_seconds: of one step of the first wave, timed on rows of middling length.
        tokens_per_second: of that step.
        epoch_seconds: until every experiment of the first wave has seen each row once.
        seconds: until the last step of the last wave.
    """

    step_seconds: float
    tokens_per_second: float
    epoch_seconds: float
    seconds: float


@dataclass(frozen=True)
class Disk:
    """Room for checkpoints.

    Args:
        checkpoint_bytes: of one, at the most.
        num_kept: how many are kept at a time.
        free_bytes: on the disk of the run directory.
    """

    checkpoint_bytes: int
    num_kept: int
    free_bytes: int


@dataclass(frozen=True)
class Traffic:
    """What a rank exchanges with the others, beside a few kilobytes a step.

    Args:
        num_ranks: how many train together.
        reduced_bytes: gradients that are summed over the ranks, a step of the largest wave.
        gathered_bytes: weights of a divided base that a rank receives, a pass there and back; 0 if it is
            whole on each.
    """

    num_ranks: int
    reduced_bytes: int
    gathered_bytes: int = 0

    def among(self, num_ranks: int) -> Traffic:
        """Return what as many ranks exchange: each receives what the others keep."""
        kept_by_others = (1 - 1 / num_ranks) / (1 - 1 / self.num_ranks)
        return Traffic(num_ranks, self.reduced_bytes, round(self.gathered_bytes * kept_by_others))


@dataclass(frozen=True)
class Prediction:
    """What a training will take.

    Args:
        waves: who trains together.
        memory, disk: see there.
        pace: None where a signal came before the timed step had ended.
        traffic: None if there is one process.
    """

    waves: tuple[tuple[str, ...], ...]
    memory: Memory
    pace: Pace | None
    disk: Disk
    traffic: Traffic | None = None

    def for_processes(self, number: int) -> Prediction:
        """Return the prediction for another number of processes, of what they exchange."""
        if self.traffic is None or self.traffic.num_ranks == number:
            return self
        return replace(self, traffic=None if number == 1 else self.traffic.among(number))

    def to_json(self) -> JsonObject:
        """For provenance.json, and for the event `plan`."""
        values = {**asdict(self), "waves": [list(wave) for wave in self.waves]}
        if self.memory.pass_limit is None:
            del values["memory"]["pass_limit"]
        return values if self.traffic else {key: values[key] for key in values if key != "traffic"}
