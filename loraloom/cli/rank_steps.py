"""What the command line does if torchrun has started several of it."""

from __future__ import annotations

import sys

from loraloom.distributed.launch import Launch
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message

SHARED_VERBS = ("train",)


def leaves_it_to_leader(launch: Launch, verb: str) -> bool:
    """Return whether this process has nothing to do, because one process does what the verb asks for.

    Args:
        launch: how this process was started.
        verb: the first word of the command line.
    """
    if launch.is_alone or verb in SHARED_VERBS:
        return False
    if launch.is_follower:
        return True
    said = Message(
        "note: only `train` shares its work among processes; rank 0 does this alone, and the "
        "other {number} end",
        number=launch.size - 1,
    )
    print(rendered(said), file=sys.stderr)
    return False
