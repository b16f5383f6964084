"""The command of the pages, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_the_usual_end(tmp_path: Path, number: signal.Signals) -> None:
    code = "from loraloom.cli import main; main()"
    command = [sys.executable, "-c", code, "ui", "--runs", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "http://127.0.0.1:" in process.stderr.readline()
        process.send_signal(number)
        assert process.stderr.read() == ""
        assert process.wait(20) == 0
