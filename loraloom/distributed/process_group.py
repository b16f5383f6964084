"""torch's process group for a training run, with errors that name the ranks concerned.

What ranks agree on (signals, memory, digests) is exchanged by gloo between CPUs; gradients on GPUs are
summed by NCCL. An exchange precedes every sum and detects a rank that hangs.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

from loraloom.data.encoding import EncodedSet
from loraloom.data.pass_plan import SliceRanges
from loraloom.distributed.meeting import Meeting, RankError
from loraloom.distributed.ranks import Ranks, divide
from loraloom.errors import LoRALoomError, RunError, TrainingError
from loraloom.run.events import Event, Report
from loraloom.text.message import Message

# Nearly every message fits, so that an exchange is one collective.
MESSAGE_BYTES = 1024
LENGTH_BYTES = 8
# Between two signs of life of a rank that others wait for, at most.
SIGN_SECONDS = 10.0


class ProcessGroup(Ranks):
    """Several processes that train together.

    Args:
        meeting: the store that they share.

    Raises:
        RunError: the processes cannot connect to each other.
        RankError: another rank ended, or does not answer.
    """

    def __init__(self, meeting: Meeting) -> None:
        launch = meeting.launch
        self.meeting, self.rank, self.size = meeting, launch.rank, launch.size
        self.local_size = launch.local_size
        self._num_exchanges = 0
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        timeout = timedelta(seconds=launch.timeout)
        # While torch itself waits for the others, Python runs no signal handler and no reason is read.
        meeting.arrive()
        meeting.wait_for_all("here")
        try:
            dist.init_process_group(
                backend,
                store=PrefixStore("group", meeting.store),
                rank=self.rank,
                world_size=self.size,
                timeout=timeout,
            )
        except (dist.DistError, RuntimeError) as error:
            meeting.raise_ending()
            raise RunError(
                Message("the training processes cannot connect to each other"),
                where=launch.meeting_place,
                found=str(error).partition("\n")[0][:200],
                fix=Message(
                    "If the machine has several network interfaces, name the right one: "
                    "GLOO_SOCKET_IFNAME=eth0."
                ),
            ) from None

    def slices(self, plans: Sequence[Sequence[Sequence[int]]], examples: EncodedSet) -> SliceRanges:
        """Return the slice of each micro-batch that this rank computes."""
        return [divide(plan, examples, self.rank, self.size) for plan in plans]

    def owns(self, number: int) -> bool:
        """Return whether this rank computes the evaluation batch with the given number."""
        return number % self.size == self.rank

    def exchange(self, value: Any) -> list[Any]:
        """Send a JSON value to every rank, and return the values of all ranks.

        Raises:
            RankError: a rank has ended, or does not answer.
        """
        own = json.dumps(value).encode()
        room = MESSAGE_BYTES - LENGTH_BYTES
        padded = len(own).to_bytes(LENGTH_BYTES, "little") + own[:room]
        received = [bytes(each) for each in self._gathered(padded, MESSAGE_BYTES)]
        lengths = [int.from_bytes(each[:LENGTH_BYTES], "little") for each in received]
        contents = [each[LENGTH_BYTES:] for each in received]
        if max(lengths) > room:
            rest = self._gathered(own[room:], max(lengths) - room)
            contents = [begin + bytes(end) for begin, end in zip(contents, rest, strict=True)]
        return [json.loads(each[:length]) for each, length in zip(contents, lengths, strict=True)]

    def _gathered(self, content: bytes, num_bytes: int) -> list[Any]:
        padded = np.frombuffer(content.ljust(num_bytes, b"\0"), dtype=np.uint8).copy()
        gathered = [torch.empty(num_bytes, dtype=torch.uint8) for _ in range(self.size)]
        with self._named_failures():
            dist.all_gather(gathered, torch.from_numpy(padded))
        return [each.numpy().tobytes() for each in gathered]

    def announce(self, name: str, value: Any) -> None:
        """Store a JSON value for the other ranks, under a name."""
        self.meeting.post(name, value)

    def wait_for(self, name: str) -> Any:
        """Wait for the value that the leader announces under a name.

        Raises:
            RankError: a rank has ended, or the leader shows no sign of life within the timeout.
        """
        return self.meeting.wait_for(name, 0)

    def wait_for_all(self, name: str) -> None:
        """Wait until every other rank has announced a value under `NAME/RANK`, where RANK is its number.

        Raises:
            RankError: a rank has ended, or an awaited rank shows no sign of life within the timeout.
        """
        self.meeting.wait_for_all(name)

    def send(self, content: bytes | None) -> bytes:
        """Send the leader's bytes, of any size, to every rank and return them."""
        (length, *_) = self.exchange(0 if content is None else len(content))
        buffer = torch.empty(length, dtype=torch.uint8)
        if content:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        if length:
            with self._named_failures():
                dist.broadcast(buffer, src=0)
        return buffer.numpy().tobytes()

    def counting(self, report: Report) -> Report:
        """Wrap a `Report`, so that each event also tells the other ranks that this rank is alive."""

        def counted(event: Event) -> None:
            self.meeting.count()
            report(event)

        return counted

    @contextmanager
    def staying_alive(self) -> Iterator[None]:
        """Tell the other ranks repeatedly, during a `with` block, that this rank is alive."""
        has_ended = threading.Event()

        def count() -> None:
            with suppress(dist.DistError, RuntimeError):  # the store was in a process that has ended
                while not has_ended.wait(min(self.meeting.launch.timeout / 4, SIGN_SECONDS)):
                    self.meeting.count()

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield
        finally:
            has_ended.set()
            thread.join(SIGN_SECONDS)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        with self._named_failures():
            works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
            for work in works:
                if work is not None:
                    work.wait()

    @contextmanager
    def named_gatherings(self) -> Iterator[None]:
        """Convert torch's weight-gathering errors, in a `with` block, to errors that name the lost rank.

        Raises:
            RankError: a rank has ended, or does not answer.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error)
            if not isinstance(error, dist.DistError) and "gloo" not in text:
                raise
            is_timeout = "timed out" in text.lower()
            raise self._broken(error, self.meeting.launch.timeout if is_timeout else 0.0) from None

    @contextmanager
    def _named_failures(self) -> Iterator[None]:
        self._num_exchanges += 1
        started, own = time.monotonic(), self._num_exchanges
        try:
            self.meeting.store.set(f"arrived/{self.rank}", str(own))
            yield
        except (dist.DistError, RuntimeError) as error:
            raise self._broken(error, time.monotonic() - started) from None

    def _broken(self, error: Exception, seconds: float) -> LoRALoomError:
        def missing() -> list[int]:
            arrived = {rank: int(self.meeting.posted(f"arrived/{rank}") or 0) for rank in range(self.size)}
            absent = [rank for rank, number in arrived.items() if number < self._num_exchanges]
            return absent or ([1 - self.rank] if self.size == 2 else [])

        try:
            return self.meeting.broken(missing, seconds)
        except (dist.DistError, RuntimeError):  # the store was in the process that ended
            if self.rank:
                return RankError(Message("rank 0 ended, and with it the meeting point of the ranks"))
            return TrainingError(
                Message("the connection to the other ranks broke"), found=str(error).partition("\n")[0][:200]
            )

    def close(self) -> None:
        """Leave the process group."""
        with suppress(dist.DistError, RuntimeError, ValueError), warnings.catch_warnings(action="ignore"):
            dist.destroy_process_group()
