"""Workers that join through files while their driver is busy, or while they read a large base."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from loraloom.run.folder import create_run
from loraloom.training.signals import StopRequest
from loraloom.workers import wave_files
from loraloom.workers.wave_files import DRIVER_BEAT, FOLDER, FilePost, FileWorkers

SILENCE = 0.4


def test_a_driver_gives_signs_of_life_to_a_worker_that_still_reads_the_base(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    source = FileWorkers(run)
    post = FilePost(run.folder / FOLDER / "worker", "worker", StopRequest())
    assert source.newcomers() == []
    assert (post.folder / DRIVER_BEAT).is_file()
    post.ready(4, "cpu")
    (worker,) = source.newcomers()
    assert (worker.name, worker.capacity, source.newcomers()) == ("worker", 4, [])
    worker.dismiss()
    assert post.receive() is None
    source.close()
    post.close()
    assert not (run.folder / FOLDER).exists()


def test_a_worker_that_took_long_to_read_the_base_waits_for_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wave_files, "silence_seconds", lambda: SILENCE)
    stop = StopRequest()
    post = FilePost(tmp_path / "worker", "worker", stop)
    time.sleep(SILENCE)
    post.ready(4, "cpu")
    timer = threading.Timer(SILENCE / 2, stop.stop)
    timer.start()
    assert post.receive() is None
    post.close()
