"""A file in the current folder takes the place of no library in the processes that are started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loraloom.run.own_process import PACKAGE, module_command, module_environment


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_file_of_the_user_takes_the_place_of_no_library(is_ours: bool, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('taken', 'w').close()\n", encoding="ascii")
    command = module_command("loraloom.trackers.tracker_process")
    if not is_ours:
        command.remove("-P")
    subprocess.run(
        command,
        cwd=tmp_path,
        env=module_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert (tmp_path / "taken").exists() is not is_ours


def test_no_process_is_started_in_another_way() -> None:
    using = [path for path in PACKAGE.rglob("*.py") if "sys.executable" in path.read_text(encoding="utf-8")]
    assert [path.relative_to(PACKAGE).as_posix() for path in using] == ["run/own_process.py"]
    assert module_command("loraloom.cli") == [sys.executable, "-P", "-m", "loraloom.cli"]
