"""Running a module of this package in a process of its own: the command line and the environment.

`python -m` puts the current folder first in the import path, so a user's module named `datasets` or `json`
would be imported instead of the library. `-P` leaves the folder out; PYTHONPATH contains the location of the
package.
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
    """Return the environment for `module_command`.

    Args:
        more: variables to set in addition to those of this process.
    """
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}
