"""A process that runs command lines of the `loraloom` on its path, and measures each.

    python -P benchmarks/command_worker.py

Each line of stdin is a JSON list of words (`["train", "recipe.yaml"]`). Each line of stdout is a JSON list of
the CPU seconds that the command took and the peak of the process' resident memory so far, in bytes. It
imports nothing of this folder, because it also runs with the package of another checkout.
"""

from __future__ import annotations

import json
import os
import resource
import sys

BYTES_PER_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def main() -> None:
    """Run commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from loraloom.cli import main as command

    for line in sys.stdin:
        sys.argv = ["loraloom", *json.loads(line)]
        before = resource.getrusage(resource.RUSAGE_SELF)
        try:
            command()
        except SystemExit as end:
            if end.code not in (0, None):
                raise
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        answers.write(json.dumps([seconds, after.ru_maxrss * BYTES_PER_UNIT]) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
