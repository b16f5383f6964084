"""A server as a user starts it, in processes of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import openai
import psutil

START_SECONDS = 120.0
TOKEN = "a-token-of-many-characters"


class LiveServer:
    """`loraloom serve …` on a free port."""

    def __init__(self, *words: str | Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", *words, "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.is_changed = False  # by a test that leaves it with other adapters
        self.said: list[str] = []
        self.address = ""
        self._is_started = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._is_started.wait(START_SECONDS) or not self.address:
            self.stop()
            raise AssertionError("".join(self.said))
        headers = {"authorization": f"Bearer {TOKEN}"}
        limits = httpx2.Limits(max_connections=None)
        self.http = httpx2.Client(base_url=self.address, headers=headers, timeout=60, limits=limits)
        self.openai = openai.OpenAI(
            base_url=f"{self.address}/v1", api_key=TOKEN, max_retries=0, http_client=self.http
        )

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"serving on (http://\S+?);", line):
                self.address = found[1]
                self._is_started.set()
        self._is_started.set()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def figure(self, name: str) -> float:
        """One figure of /metrics."""
        text = self.http.get("/metrics").text
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))

    def wait_for(self, name: str, value: float, seconds: float) -> float:
        """Wait until a figure has a value, and return the seconds that it took."""
        started = time.monotonic()
        while self.figure(name) != value:
            assert time.monotonic() - started < seconds, f"{name} is {self.figure(name)}"
            time.sleep(0.02)
        return time.monotonic() - started

    def child(self, module: str) -> psutil.Process:
        """The process of the server that runs a module."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if module in child.cmdline())

    def kill_model(self) -> None:
        self.child("loraloom.serving.worker").kill()

    def terminate(self) -> None:
        """End it as systemd does, which sends SIGTERM to all processes of a service at once."""
        for process in psutil.Process(self.process.pid).children():
            process.terminate()
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        if self.address:
            self.http.close()
        if self.is_running:
            self.process.kill()
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.http.post(path, json=body)
