"""`python -m loraloom` is the command."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "loraloom", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version("loraloom")
    wrong = subprocess.run([*command[:3], "tarin"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "No such command" in wrong.stderr
