"""The instrument itself: what it is to see, it sees; without that, no other test here could fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.warm import REPOSITORY

DEEDS = {
    "socket.getaddrinfo": "import socket; socket.getaddrinfo('huggingface.co', 443)",
    "socket.connect": "import socket; socket.socket().connect(('127.0.0.1', 9))",
    "a library": "import urllib.request; urllib.request.urlopen('https://huggingface.co')",
    "os.system": "import os; os.system('true')",
    "subprocess.Popen": "import subprocess; subprocess.run(['true'])",
    "pickle.find_class": "import pickle, pathlib; pickle.loads(pickle.dumps(pathlib.Path('x')))",
    "exec": "import runpy; runpy.run_path('foreign/evil.py')",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_must_not_happen_is_seen(deed: str, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "evil.py").write_text("x = 1")
    code = (
        f"from pathlib import Path\nfrom tests.security.watch import watch\n"
        f"watch(Path('log'), Path('foreign'))\n{DEEDS[deed]}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    told = (tmp_path / "log").read_text()
    assert ("socket.getaddrinfo" if deed == "a library" else deed) in told
    is_network = deed in ("a library", "socket.getaddrinfo", "socket.connect")
    assert (done.returncode != 0) == is_network, done.stderr
    assert not is_network or "no network in this test" in done.stderr
