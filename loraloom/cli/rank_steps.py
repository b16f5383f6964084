"""What the command line does differently if torchrun has started several processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loraloom.cli.translated_help import is_usage_error, print_usage_error
from loraloom.distributed.joining import joined_ranks, must_print
from loraloom.distributed.launch import Launch, read_launch
from loraloom.errors import RunError
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest, stop_on_signals

if TYPE_CHECKING:
    import typer

    from loraloom.session.answering_ranks import AnsweringRanks

SHARED_VERBS = ("train", "compare", "predict")
HELP = frozenset({"-h", "--help"})


def leaves_it_to_leader(launch: Launch, verb: str) -> bool:
    """Return whether this process has nothing to do, because the leader runs the command alone.

    In that case, the leader prints a note.

    Args:
        launch: how this process was started.
        verb: the first word of the command line.
    """
    if launch.is_alone or verb in SHARED_VERBS:
        return False
    if launch.is_follower:
        return True
    said = Message(
        "note: only `train`, `compare` and `predict` share their work among processes; rank 0 runs this "
        "command alone, and the other processes ({number}) end",
        number=launch.size - 1,
    )
    print(rendered(said), file=sys.stderr)
    return False


def run_verb(app: typer.Typer, launch: Launch) -> None:
    """Run a command line; of several processes, only one prints help or a usage error.

    Args:
        app: the command line.
        launch: how this process was started.
    """
    if launch.is_alone:
        app()
        return
    if launch.is_follower and HELP & set(sys.argv):
        return
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        if not is_usage_error(error):
            raise
        said, status = error.format_message(), int(error.exit_code)
        # The others hear of it, because it may be the command line of this one alone.
        if must_print(launch, RunError(said)):
            print_usage_error(error)
        sys.exit(status)
    sys.exit(code)


def on_ranks(words: str, *, shares_base: bool) -> str:
    """Return the next command, under torchrun with as many processes as now if they divide up the base.

    If the processes run on several machines, the command is returned without torchrun.

    Args:
        words: the command without torchrun: `loraloom VERB …`.
        shares_base: whether the processes divide up the base, each holding a part of it.
    """
    launch = read_launch()
    if not shares_base or launch.is_alone or launch.size != launch.local_size:
        return words
    return " ".join(("torchrun", "--nproc-per-node", str(launch.size), "-m", words))


@contextmanager
def answering_ranks() -> Iterator[tuple[AnsweringRanks | None, StopRequest | None]]:
    """Connect the processes of a command that answers rows, in a `with` block.

    Yields:
        The ranks and the stop request for the command. A single process gets no stop request. A follower
        gets no ranks, because it has already answered its share and has nothing more to do.
    """
    from loraloom.session.answering_ranks import ALONE, AnsweringRanks, follow_answers

    launch = read_launch()
    if launch.is_alone:
        yield ALONE, None
        return
    early = Message("stopped before the first answer")
    with joined_ranks(launch) as ranks, stop_on_signals(leaves_at_once=True, early=early) as stop:
        if not ranks.is_leader:
            follow_answers(ranks, stop)
            yield None, stop
            return
        with ranks.staying_alive():
            answering = AnsweringRanks(ranks)
            yield answering, stop
            answering.end()
