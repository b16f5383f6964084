"""Predicted resources of a training run, as stored in provenance.json: memory, time and disk space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from loraloom.run.documents.document import JsonObject


@dataclass(frozen=True)
class Memory:
    """Predicted peak memory on the device that trains.

    Args:
        peak_bytes: peak of the whole process; loading and the checks may already have reached it.
        loaded_bytes: memory in use before the first step: libraries, base, rows.
        base_bytes: the part of `loaded_bytes` that is frozen weights.
        phase: the work that needs the most additional memory: training, evaluation, answers or saving.
        parts: bytes that this phase needs, by purpose, the largest first.
        free_bytes: memory available in addition to what is loaded.
        pass_limit: maximum number of tokens in a pass if a whole micro-batch does not fit; None if it fits.
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
        """The bytes needed in addition to what is loaded."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Pace:
    """Measured speed of training, and its predicted duration without evaluations.

    Args:
        step_seconds: duration of one step of the first wave, timed on rows of medium length.
        tokens_per_second: throughput of that step.
        epoch_seconds: time until every experiment of the first wave has seen each row once.
        seconds: time until the last step of the last wave.
    """

    step_seconds: float
    tokens_per_second: float
    epoch_seconds: float
    seconds: float


@dataclass(frozen=True)
class Disk:
    """Disk space for checkpoints.

    Args:
        checkpoint_bytes: size of one checkpoint, at most.
        num_kept: number of checkpoints kept at a time.
        free_bytes: free space on the disk of the run directory.
    """

    checkpoint_bytes: int
    num_kept: int
    free_bytes: int


@dataclass(frozen=True)
class Traffic:
    """Data that a rank exchanges with the others, apart from a few kilobytes per step.

    Args:
        num_ranks: number of ranks that train together.
        reduced_bytes: gradients summed over the ranks, per step of the largest wave.
        gathered_bytes: if the base is divided among the ranks, weights that a rank receives per forward and
            backward pass; 0 if each rank has the whole base.
    """

    num_ranks: int
    reduced_bytes: int
    gathered_bytes: int = 0

    def among(self, num_ranks: int) -> Traffic:
        """Return the traffic for another number of ranks; each receives the weights that the others hold."""
        kept_by_others = (1 - 1 / num_ranks) / (1 - 1 / self.num_ranks)
        return Traffic(num_ranks, self.reduced_bytes, round(self.gathered_bytes * kept_by_others))


@dataclass(frozen=True)
class Prediction:
    """Predicted resources of a training run.

    Args:
        waves: names of the experiments that train together, wave by wave.
        memory, disk: predicted memory and disk space.
        pace: predicted duration; None if a signal arrived or memory ran out during the timed step.
        traffic: data exchanged between processes; None if there is only one.
    """

    waves: tuple[tuple[str, ...], ...]
    memory: Memory
    pace: Pace | None
    disk: Disk
    traffic: Traffic | None = None

    def for_processes(self, number: int) -> Prediction:
        """Return the prediction with the traffic for this number of processes."""
        if self.traffic is None or self.traffic.num_ranks == number:
            return self
        return replace(self, traffic=None if number == 1 else self.traffic.among(number))

    def to_json(self) -> JsonObject:
        """Return the prediction for provenance.json and the event `plan`."""
        values = {**asdict(self), "waves": [list(wave) for wave in self.waves]}
        if self.memory.pass_limit is None:
            del values["memory"]["pass_limit"]
        return values if self.traffic else {key: values[key] for key in values if key != "traffic"}
