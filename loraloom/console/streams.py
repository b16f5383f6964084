"""Output streams that tolerate a closed pipe, and the width at which paragraphs are wrapped."""

from __future__ import annotations

import os
import sys

from rich.console import Console

TEXT_WIDTH = 100


class Stderr(Console):
    """The stream for progress; a closed pipe (`2>&1 | head`) must not stop the training."""

    def on_broken_pipe(self) -> None:
        """Stop writing."""
        self.quiet = True


class Stdout(Console):
    """The stream for results; the reader of a pipe may stop after the first lines (`| head`)."""

    def on_broken_pipe(self) -> None:
        """Stop writing, and discard what Python would write when the process ends."""
        self.quiet = True
        _abandon_stdout()


def put(text: str) -> bool:
    """Write to stdout; return False if the reader has closed the pipe (`| head`)."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        return False
    return True


def _abandon_stdout() -> None:
    """Discard what is still buffered, because writing it would fail again when Python exits."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def text_width(console: Console) -> int:
    """Return the width at which to wrap paragraphs, in terminal columns."""
    return max(20, min(console.width, TEXT_WIDTH))
