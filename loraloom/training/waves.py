"""Waves, and the workers that train them: the messages between a driver and a worker.

A *lane* is a group of experiments that train together in one bank, with their state (`lanes.py`). A *wave* is
one task for a lane: train its state until one of its experiments ends or a search has to judge it. The
driver, the only process that writes the run, gives waves to workers (`pool.py`). `loraloom/workers/`
implements the workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from loraloom.run.documents.document import JsonObject
from loraloom.run.packing import packed, unpacked
from loraloom.text.message import from_data, to_data

HEAD = "head.json"


@dataclass(frozen=True)
class Wave:
    """One task of a lane.

    Args:
        number: unique among the waves of this driver, so that late messages are recognised.
        recipe: YAML of a recipe with the wave's experiments; paths are relative as in the run's recipe.
        files: the checkpoint to train from, as `checkpoint.state_files` yields it; its experiments are
            those of the wave.
        breaks: for each experiment, the steps after which the wave ends so that a search can judge it.
        num_others: number of experiments of the run that are not in this wave.
    """

    number: int
    recipe: str
    files: Mapping[str, bytes]
    breaks: Mapping[str, Sequence[int]] = field(default_factory=dict)
    num_others: int = 0

    def packed(self) -> bytes:
        """Return all fields as one byte string."""
        breaks = {name: list(steps) for name, steps in self.breaks.items()}
        head = {"number": self.number, "recipe": self.recipe, "breaks": breaks, "num_others": self.num_others}
        return packed({HEAD: json.dumps(head).encode(), **self.files})

    @classmethod
    def unpacked(cls, content: bytes) -> Wave:
        """Restore a wave from bytes that `packed` returned.

        Raises:
            ValueError: the bytes are truncated, or are not a wave.
        """
        head, files = _opened(content)
        return cls(head["number"], head["recipe"], files, head["breaks"], head["num_others"])


@dataclass(frozen=True)
class WorkerMessage:
    """A worker's message about a wave.

    Args:
        kind: an `event` for the log, a `checkpoint`, the `end` of the wave, or a `failure` of the worker,
            which then trains nothing more.
        number: number of the wave.
        event: line of the log, without a time.
        files: the checkpoint, or the state at the end.
        problem: why the worker failed.
    """

    kind: Literal["event", "checkpoint", "end", "failure"]
    number: int
    event: JsonObject = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    problem: str = ""

    def packed(self) -> bytes:
        """Return all fields as one byte string."""
        head = {"kind": self.kind, "number": self.number, "event": self.event, "problem": self.problem}
        return packed({HEAD: json.dumps(to_data(head)).encode(), **self.files})

    @classmethod
    def unpacked(cls, content: bytes) -> WorkerMessage:
        """Restore a message from bytes that `packed` returned.

        Raises:
            ValueError: the bytes are truncated, or are not a message.
        """
        head, files = _opened(content)
        return cls(head["kind"], head["number"], head["event"], files, from_data(head["problem"]))


def _opened(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    files = unpacked(content)
    try:
        return json.loads(files.pop(HEAD)), files
    except KeyError:
        raise ValueError(f"has no {HEAD}") from None


class Worker(Protocol):
    """A worker, as the driver sees it. No method waits for the worker."""

    @property
    def name(self) -> str:
        """The worker's name in messages, such as `node3, process 4711`."""

    @property
    def capacity(self) -> int:
        """The largest number of experiments that fit in the worker's memory together."""

    @property
    def loss(self) -> str:
        """The reason why the worker was lost; empty if it was not."""

    def start(self, wave: Wave) -> None:
        """Send a wave to the worker, which must not be training one already."""

    def messages(self) -> Sequence[WorkerMessage]:
        """Return the worker's messages since the last call, in order."""

    def recall(self) -> None:
        """Ask the worker to return its wave after the current step."""

    def dismiss(self) -> None:
        """Ask the worker to end."""


class WorkerSource(Protocol):
    """A source of workers."""

    @property
    def num_expected(self) -> int:
        """The number of workers that were started and have not answered yet."""

    def newcomers(self) -> Sequence[Worker]:
        """Return the workers that have become available since the last call."""

    def remarks(self) -> Sequence[str]:
        """Return notes since the last call, for the user: which workers cannot take part, and why."""

    def why_none(self) -> str:
        """Return the reason why no more workers will become available; "" if some still may."""

    def close(self) -> None:
        """Dismiss workers that have not become available yet."""


class NoWorkers:
    """A worker source without workers: everything is trained in this process."""

    num_expected = 0

    def newcomers(self) -> Sequence[Worker]:
        """Return no workers."""
        return ()

    def remarks(self) -> Sequence[str]:
        """Return no notes."""
        return ()

    def why_none(self) -> str:
        """Return "", because nothing waits for workers."""
        return ""

    def close(self) -> None:
        """Do nothing, because there are no workers to dismiss."""
