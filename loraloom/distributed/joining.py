"""Connecting the processes of a training run; a process that fails records the reason for the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from loraloom.distributed.launch import Launch
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.errors import Interrupted, LoRALoomError
from loraloom.text.message import Message

if TYPE_CHECKING:
    from loraloom.distributed.meeting import Meeting

# How long a rank that ends waits for another to read its reason, or to leave one.
FAREWELL_SECONDS = 3.0
# Raised for a store that is gone, because its process has ended.
LostStoreError = RuntimeError

_meetings: list[Meeting] = []  # meetings of this process, which may end after leaving one
_failures: list[LoRALoomError] = []  # reasons why this process did not meet the others


@contextmanager
def joined_ranks(launch: Launch) -> Iterator[Ranks]:
    """Connect the processes of a training run during a `with` block; a process that trains alone skips this.

    Args:
        launch: how this process was started.

    Raises:
        RunError: the processes cannot meet.
        RankError: another rank ended, or does not answer.
    """
    if launch.is_alone:
        yield ONE_PROCESS
        return
    # Imported here, because some builds of torch have no distributed part.
    from loraloom.distributed.process_group import ProcessGroup

    meeting, group = _meet(launch), None
    try:
        group = ProcessGroup(meeting)
        with group.named_gatherings():
            yield group
    except LoRALoomError as error:
        _leave(meeting, error.as_message())
        raise
    except Interrupted as stop:
        with suppress(LostStoreError):
            meeting.raise_ending(only_failures=True)  # torchrun stops all ranks after one has failed
        _leave_after_signal(meeting, stop.as_message())
        raise
    except BaseException as ending:
        if not isinstance(ending, Exception):  # a signal, before the run handles signals itself
            _leave_after_signal(meeting, Message("stopped"))
        raise
    finally:
        if group is not None:
            group.close()


def must_print(launch: Launch, error: LoRALoomError) -> bool:
    """Record for the other ranks why this rank ends, and return whether this rank should print it.

    The leader always prints, and so does a rank that cannot connect to the others. Any other rank prints if
    its error does not repeat the reason of another rank, the leader records no reason within
    `FAREWELL_SECONDS` (because it was killed), and no other rank has begun to print.

    Args:
        launch: how this process was started.
        error: the reason why this rank ends.
    """
    if launch.is_alone:
        return True
    try:
        meeting = _meet(launch)
    except LoRALoomError:  # the others have ended
        return True
    _leave(meeting, error.as_message())
    if not launch.is_follower:
        return True
    has_printed = getattr(error, "has_reason", False)
    with suppress(LostStoreError):
        has_printed = has_printed or _wait_until(lambda: meeting.has_left(0))
        meeting.need_no_more()
        # If the leader has been killed, the first of the others prints.
        has_printed = has_printed or meeting.store.add("speakers", 1) > 1
    return not has_printed


def _meet(launch: Launch) -> Meeting:
    from loraloom.distributed.meeting import Meeting

    if _failures:  # waiting again would take as long again
        raise _failures[0]
    if not _meetings:
        try:
            _meetings.append(Meeting(launch))
        except LoRALoomError as error:
            _failures.append(error)
            raise
    return _meetings[0]


def _leave_after_signal(meeting: Meeting, reason: str) -> None:
    """Record that this rank was asked to stop; if another rank was killed, record and raise that instead.

    Raises:
        RankError: names the rank that was killed.
    """
    killed = None
    with suppress(LostStoreError):
        killed = meeting.killed()  # before the reason is left, because the leader may end as soon as it is
    if killed is not None:
        _leave(meeting, killed.as_message())
        raise killed from None
    _leave(meeting, reason, is_failure=False)


def _leave(meeting: Meeting, reason: str, *, is_failure: bool = True) -> None:
    """Record why this rank ends; a leader whose process holds the store waits briefly for the other ranks."""
    launch = meeting.launch
    with suppress(LostStoreError):
        if not meeting.has_left(launch.rank):
            meeting.leave(reason, is_failure=is_failure)
            if not launch.is_follower and "TORCHELASTIC_USE_AGENT_STORE" not in os.environ:
                is_done = meeting.needs_no_more if is_failure else meeting.has_left
                _wait_until(lambda: all(map(is_done, range(1, launch.size))))


def _wait_until(condition: Callable[[], bool]) -> bool:
    """Wait up to `FAREWELL_SECONDS` for a condition to become true, and return whether it did."""
    deadline = time.monotonic() + FAREWELL_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
