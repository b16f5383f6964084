"""The number of threads of a run: recorded, restored on resume, and divided among local processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from loraloom.run.documents.choice import Choice
from loraloom.text.message import Message


def set_threads(choices: Mapping[str, str], devices: Sequence[str] = ()) -> None:
    """Use as many threads as when the run started, because their number changes the last bits of results.

    A new run uses torch's default. If it distributes its experiments over several processes on the CPU, each
    process uses an equal share, because threads of two processes on one core would wait for each other.

    Args:
        choices: automatic choices recorded in the run; empty for a new run.
        devices: the devices that the run uses, if the recipe lists several.
    """
    if "threads" in choices:
        torch.set_num_threads(int(choices["threads"]))
    elif (num := devices.count("cpu")) > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // num))


def threads_choice(devices: Sequence[str]) -> Choice:
    """Return the number of threads that `set_threads` has set, and its reason."""
    reason: str = Message("torch's default for this machine")
    if (num := devices.count("cpu")) > 1:
        reason = Message("an equal share for each of the {num} processes on the CPU", num=num)
    return Choice(str(torch.get_num_threads()), reason)


@contextmanager
def restored_threads() -> Iterator[None]:
    """Restore torch's number of threads on exit, for the program that called LoRALoom."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
