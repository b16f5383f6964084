"""Writing to a terminal: no text of a file moves its cursor, and a pipe that nobody reads does no harm."""

from __future__ import annotations

import os
import sys

from rich.console import Console

TEXT_WIDTH = 100


class Stderr(Console):
    """Progress that nobody reads any more (`2>&1 | head`) must not stop the training."""

    def on_broken_pipe(self) -> None:
        """Say no more."""
        self.quiet = True


class Stdout(Console):
    """Results of which somebody wanted the first lines only (`| head`)."""

    def on_broken_pipe(self) -> None:
        """Say no more, not even at the end of the process."""
        self.quiet = True
        _abandon_stdout()


def put(text: str) -> bool:
    """Write to stdout; False once nobody reads it any more (`| head`)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return False
    return True


def _abandon_stdout() -> None:
    """What is still buffered would fail again when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def text_width(console: Console) -> int:
    """Columns of a paragraph."""
    return max(20, min(console.width, TEXT_WIDTH))
