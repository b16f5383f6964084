"""Workers that join through files while their driver is busy, or while they read a large base."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from loraloom.errors import RunError
from loraloom.run.folder import create_run
from loraloom.training.signals import StopRequest
from loraloom.training.waves import Wave
from loraloom.workers import file_post, file_workers
from loraloom.workers.file_post import FilePost
from loraloom.workers.file_workers import FileWorkers
from loraloom.workers.journal import DISMISSED, Journal
from loraloom.workers.wave_files import DRIVER_BEAT, FOLDER, wave_file

SILENCE = 0.4


def give(folder: Path, number: int) -> None:
    """Give a worker a wave of this number."""
    name = wave_file(number)
    (folder / name).write_bytes(Wave(number, "recipe", {}).packed())
    Journal(folder).give(number, name)


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
    monkeypatch.setattr(file_post, "silence_seconds", lambda: SILENCE)
    stop = StopRequest()
    post = FilePost(tmp_path / "worker", "worker", stop)
    time.sleep(SILENCE)
    post.ready(4, "cpu")
    timer = threading.Timer(SILENCE / 2, stop.stop)
    timer.start()
    assert post.receive() is None
    post.close()


def test_a_worker_waits_for_a_driver_that_has_the_lock_and_is_busy_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in an evaluation, and gives signs of life in a worker's folder after it has seen it."""
    monkeypatch.setattr(file_post, "silence_seconds", lambda: SILENCE)
    monkeypatch.setattr(file_post, "BEAT_SECONDS", SILENCE / 4)
    run = create_run(tmp_path / "run")
    with run.locked():
        post = FilePost(run.folder / FOLDER / "worker", "worker", StopRequest())
        post.ready(4, "cpu")
        time.sleep(2 * SILENCE)
        source = FileWorkers(run)
        threading.Timer(2 * SILENCE, source.newcomers).start()
        threading.Timer(3 * SILENCE, give, [post.folder, 1]).start()
        assert post.receive() is not None
        source.close()
        post.close()


@pytest.mark.parametrize("has_finished", [True, False])
def test_a_worker_that_comes_after_the_last_trial_ends_with_the_run(
    has_finished: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver does not look for workers any more, and has the lock until its result is written."""
    monkeypatch.setattr(file_post, "BEAT_SECONDS", SILENCE / 4)
    run = create_run(tmp_path / "run")
    with run.locked():
        post = FilePost(run.folder / FOLDER / "worker", "worker", StopRequest())
        post.ready(4, "cpu")
        time.sleep(SILENCE)
        assert post._is_run_held()
        if has_finished:
            run.result_file.touch()
    if has_finished:
        assert post.receive() is None
    else:
        with pytest.raises(RunError, match="has ended"):
            post.receive()
    post.close()
    assert not (run.folder / FOLDER).exists()


def test_the_folder_of_a_lost_worker_is_removed_when_no_beat_is_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(tmp_path / "run")
    source = FileWorkers(run)
    post = FilePost(run.folder / FOLDER / "worker", "worker", StopRequest())
    post.ready(4, "cpu")
    (worker,) = source.newcomers()
    worker.loss = "it has not responded"
    beating: list[bool] = []

    def rmtree(folder: Path, **_: object) -> None:
        beating.append(folder / DRIVER_BEAT in source._beats._files)

    monkeypatch.setattr(file_workers.shutil, "rmtree", rmtree)
    worker.dismiss()
    assert beating == [False]
    monkeypatch.undo()
    source.close()
    post.close()


@pytest.mark.parametrize("is_dismissed", [True, False])
def test_a_driver_that_ended_right_after_its_last_word_was_looked_for(
    is_dismissed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = FilePost(tmp_path / "worker", "worker", StopRequest())

    class Ended:
        was_heard = True

        @property
        def silent_seconds(self) -> float:
            if is_dismissed:
                Journal(post.folder).note(DISMISSED, True)
            return float("inf")

    monkeypatch.setattr(post, "_driver", Ended())
    if is_dismissed:
        assert post.receive() is None
    else:
        with pytest.raises(RunError, match="has ended"):
            post.receive()
    post.close()


def test_a_journal_that_cannot_be_read_for_a_moment_ends_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = FilePost(tmp_path / "worker", "worker", StopRequest())
    Journal(post.folder).note(DISMISSED, True)
    failures = iter([OSError(errno.ESTALE, "Stale file handle")] * 3)
    plain = JournalFileBackend.read_logs

    def reading(journal: JournalFileBackend, number: int) -> Iterator[dict[str, Any]]:
        if (error := next(failures, None)) is not None:
            raise error
        return plain(journal, number)

    monkeypatch.setattr(JournalFileBackend, "read_logs", reading)
    assert post.receive() is None
    assert next(failures, None) is None
    assert not post.is_recalled()
    post.close()


def test_a_wave_that_cannot_be_read_for_a_moment_is_trained_and_a_damaged_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = FilePost(tmp_path / "worker", "worker", StopRequest())
    give(post.folder, 1)
    failures = iter([OSError(errno.ESTALE, "Stale file handle")] * 2)
    plain = Path.read_bytes

    def reading(path: Path) -> bytes:
        if path.name == "wave-000001" and (error := next(failures, None)) is not None:
            raise error
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    wave = post.receive()
    assert wave is not None
    assert wave.number == 1
    assert next(failures, None) is None
    (post.folder / "wave-000002").write_bytes(b"{")
    Journal(post.folder).give(2, "wave-000002")
    with pytest.raises(RunError, match="wave-000002 cannot be read"):
        post.receive()
    post.close()
