"""The meeting point of training processes: a key-value store that remains when a process is killed.

torchrun keeps the store in its own process; with other launchers, the process of rank 0 keeps it. A
rank that fails records the reason here, so that the others can report which rank ended the run, and why.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store

from loraloom.distributed.launch import TIMEOUT_VARIABLE, Launch
from loraloom.errors import RunError, TrainingError
from loraloom.text.message import Message, from_data, joined, to_data
from loraloom.text.units import duration

POLL_SECONDS = 0.05
# How long a rank whose connection broke waits for the reason of the one that ended.
REASON_SECONDS = 3.0
MEETING_SECONDS = 60.0


class RankError(TrainingError):
    """Another rank ended or does not answer, so this one cannot continue.

    Args:
        what, fix: as in `LoRALoomError`.
        has_reason: whether the other rank recorded why it ended.
    """

    def __init__(self, what: str, *, fix: str = "", has_reason: bool = False) -> None:
        super().__init__(what, fix=fix)
        self.has_reason = has_reason


class Meeting:
    """The store that all ranks share.

    Args:
        launch: how this process was started.

    Raises:
        RunError: the port is in use, or nothing answers at the address.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.store = PrefixStore("loraloom", _connect(launch))

    def leave(self, reason: str, *, is_failure: bool = True) -> None:
        """Record why this rank ends.

        Args:
            reason: a sentence for people.
            is_failure: False if the rank was asked to stop.
        """
        self.post(f"ended/{self.launch.rank}", [is_failure, to_data(reason)])

    def has_left(self, rank: int) -> bool:
        """Return whether a rank has recorded why it ends."""
        return self.posted(f"ended/{rank}") is not None

    def need_no_more(self) -> None:
        """Record that this rank no longer needs the store: it will not read why other ranks end."""
        self.post(f"read/{self.launch.rank}", True)

    def needs_no_more(self, rank: int) -> bool:
        """Return whether a rank no longer needs the store: it called `need_no_more`, or was asked to stop."""
        ended = self.posted(f"ended/{rank}")
        return self.posted(f"read/{rank}") is not None or (ended is not None and not ended[0])

    def post(self, name: str, value: Any) -> None:
        """Store a JSON value under a name."""
        self.store.set(name, json.dumps(value))

    def posted(self, name: str) -> Any:
        """Return the value stored under a name; None if there is none."""
        return json.loads(self.store.get(name)) if self.store.check([name]) else None

    def count(self) -> None:
        """Record another sign of life from this rank; ranks that wait for it restart their timeout."""
        self.store.add(f"signs/{self.launch.rank}", 1)

    def wait_for(self, name: str, rank: int) -> Any:
        """Wait for the value that another rank stores under a name.

        Raises:
            RankError: a rank has ended, or the awaited rank shows no sign of life within the timeout.
        """
        return self._wait(lambda: self.posted(name), [rank])

    def wait_for_all(self, name: str) -> None:
        """Wait until every other rank has stored a value under `NAME/RANK`, where RANK is its number.

        Raises:
            RankError: a rank has ended, or an awaited rank shows no sign of life within the timeout.
        """
        missing = [rank for rank in range(self.launch.size) if rank != self.launch.rank]

        def is_complete() -> bool | None:
            missing[:] = [rank for rank in missing if not self.store.check([f"{name}/{rank}"])]
            return None if missing else True

        self._wait(is_complete, missing)

    def _wait(self, ask: Callable[[], Any], missing: list[int]) -> Any:
        signs, since = "", time.monotonic()
        while (found := ask()) is None:
            self.raise_ending()
            new = str([self.store.add(f"signs/{rank}", 0) for rank in missing])
            if new != signs:
                signs, since = new, time.monotonic()
            if time.monotonic() - since > self.launch.timeout:
                raise self.no_answer(missing)
            time.sleep(POLL_SECONDS)
        return found

    def raise_ending(self, *, only_failures: bool = False) -> None:
        """Raise an error that says why another rank ended, if one has recorded that it did.

        Args:
            only_failures: whether to ignore ranks that were asked to stop.

        Raises:
            RankError: another rank has ended; the message names it.
        """
        for rank in range(self.launch.size):
            found = self.posted(f"ended/{rank}") if rank != self.launch.rank else None
            if found is not None and (found[0] or not only_failures):
                reason = from_data(found[1])
                raise RankError(
                    Message("rank {rank} ended: {reason}", rank=rank, reason=reason), has_reason=True
                )

    def arrive(self) -> None:
        """Record that this rank has started, with its machine and process id."""
        self.post(f"here/{self.launch.rank}", [_machine(), os.getpid()])

    def killed(self) -> RankError | None:
        """Return an error if ranks on this machine ended without recording why; otherwise return None."""
        others = (rank for rank in range(self.launch.size) if rank != self.launch.rank)
        missing = [rank for rank in others if self._is_lost(rank)]
        return _without_a_reason(missing) if missing else None

    def _is_lost(self, rank: int) -> bool:
        machine, pid = self.posted(f"here/{rank}") or ("", 0)
        # In this order, because a rank leaves its reason before its process ends.
        return machine == _machine() and not _is_alive(pid) and not self.has_left(rank)

    def broken(self, arrivals: Callable[[], list[int]], seconds: float) -> RankError:
        """Return the error that explains why an exchange between ranks failed.

        Args:
            arrivals: a function that returns the ranks that did not take part.
            seconds: how long the exchange waited, in seconds.
        """
        is_timeout = seconds >= self.launch.timeout * 0.9
        deadline = time.monotonic() + (0 if is_timeout else REASON_SECONDS)
        while True:
            try:
                self.raise_ending()
            except RankError as error:
                return error
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_SECONDS)
        missing = arrivals()
        if is_timeout:
            return self.no_answer(missing)
        return _without_a_reason(missing)

    def no_answer(self, missing: list[int]) -> RankError:
        """Return the error that names the ranks that showed no sign of life within the timeout."""
        return RankError(
            Message(
                "{ranks} did not answer within {seconds}",
                ranks=_named(missing),
                seconds=duration(self.launch.timeout),
            ),
            fix=Message(
                "Check what those processes are waiting for, then resume the run or repeat the command; "
                "{variable} changes this limit, in seconds.",
                variable=TIMEOUT_VARIABLE,
            ),
        )


def _without_a_reason(ranks: list[int]) -> RankError:
    return RankError(
        Message("{ranks} ended without giving a reason, as a killed process does", ranks=_named(ranks)),
        fix=Message(
            "Check whether the machine ran out of memory, then resume the run or repeat the command."
        ),
    )


def _machine() -> str:
    """Return a name that processes share if they see each other's ids: host and, on Linux, PID namespace."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {space}"


def _is_alive(pid: int) -> bool:
    """Return whether a process is running; a zombie, which has ended but is still listed, does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _named(ranks: list[int]) -> Message:
    if not ranks:
        return Message("a rank")
    numbers = joined(", ", map(str, ranks))
    return Message.counting("rank {numbers}", "ranks {numbers}", count=len(ranks), numbers=numbers)


def _connect(launch: Launch) -> Store:
    from torch.distributed.rendezvous import rendezvous

    seconds, started = min(MEETING_SECONDS, launch.timeout), time.monotonic()
    timeout = timedelta(seconds=seconds / 2)  # torch tries it twice
    try:
        store: Store = next(iter(rendezvous("env://", launch.rank, launch.size, timeout=timeout)))[0]
    except dist.DistNetworkError as error:
        raise _unreachable(launch, str(error), time.monotonic() - started) from None
    except (dist.DistError, RuntimeError, ValueError, OSError) as error:
        raise RunError(
            Message("the training processes cannot find each other"),
            where=launch.meeting_place,
            found=str(error).partition("\n")[0][:200],
            fix=Message("Start all of them with torchrun, with the same --master-addr and --master-port."),
        ) from None
    store.set_timeout(timedelta(seconds=seconds))
    return store


def _unreachable(launch: Launch, said: str, seconds: float) -> RunError:
    if "EADDRINUSE" in said or "address already in use" in said:
        return RunError(
            Message("the port at which the processes meet is in use by another program"),
            where=launch.meeting_place,
            fix=Message("Choose another one with --master-port, or let torchrun choose with --standalone."),
        )
    return RunError(
        Message(
            "no process answered within {seconds} at the address where the processes meet",
            seconds=duration(seconds),
        ),
        where=launch.meeting_place,
        fix=Message(
            "Check that rank 0 is running, that its address is correct, and that no firewall blocks it."
        ),
    )
