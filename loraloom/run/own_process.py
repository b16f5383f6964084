"""Processes of this package: the command and environment of one of its modules.

`python -m` puts the current folder first, where a file of the user called "datasets" or "json" would stand
for the library of that name. So it is left out (`-P`), and the place of the package is named instead.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def module_command(module: str, *words: str | Path) -> list[str]:
    """Return the command line that runs a module of this package."""
    return [sys.executable, "-P", "-m", module, *map(str, words)]


def module_environment(**more: str) -> dict[str, str]:
    """Return its environment.

    Args:
        more: set beside what this process has.
    """
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
