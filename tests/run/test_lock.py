"""A lock is its holder's alone: between processes, between threads, and whatever lies at its path."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run import lock
from loraloom.run.lock import holder, holder_note, is_held, locked, writing


@pytest.fixture(autouse=True, params=[False, True], ids=["", "with a guard, as on Windows"])
def _guarded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCKS_A_GUARD", request.param)


@contextmanager
def held_by_a_child(
    path: Path, *, seconds: float = 30, is_temporary: bool = False, note: str = ""
) -> Iterator[int]:
    """Its process id; it holds the lock until it is killed, or for so long."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(path, is_temporary=is_temporary, note=note):
            os.write(writer, b"held")
            signal.sigtimedwait([], seconds)
        os._exit(0)
    os.read(reader, 4)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_the_message_names_the_holder_what_it_does_and_what_is_locked(tmp_path: Path) -> None:
    path = tmp_path / ".test.lock"
    with held_by_a_child(path) as pid, pytest.raises(RunError) as refused:  # noqa: PT012
        assert is_held(path)
        with locked(path, doing="is writing the comparison `test`", where=tmp_path / "run", fix="Wait."):
            pass
    (problem,) = refused.value.problems
    assert problem.what == f"another process is writing the comparison `test` (pid {pid})"
    assert (problem.where, problem.fix) == (str(tmp_path / "run"), "Wait.")
    assert not is_held(path)  # it died with its holder
    with locked(path, is_temporary=True):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()


def test_a_note_is_its_holders_alone(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with held_by_a_child(path, note="ray") as pid, pytest.raises(RunError) as refused:  # noqa: PT012
        assert (holder(path), holder_note(path)) == (pid, "ray")
        with locked(path, where=tmp_path):
            pass
    assert refused.value.problems[0].what == f"another process is using this run (pid {pid})"
    assert (holder(path), holder_note(path)) == (None, "")  # though the file has them
    with locked(path):
        assert (holder(path), holder_note(path)) == (os.getpid(), "")


def test_a_second_holder_in_this_process_is_refused_and_does_not_free_the_first(tmp_path: Path) -> None:
    path, found = tmp_path / ".lock", []

    def try_it() -> None:
        try:
            with locked(path):
                found.append("held twice")
        except RunError as error:
            found.append(error.problems[0].what)

    with locked(path):
        assert is_held(path)
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        assert found == [f"this process itself is using this run (pid {os.getpid()})"]
        child = os.fork()
        if child == 0:
            try_it()
            os._exit("another process is using this run" not in found[-1])
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with locked(path):
        pass


def test_whoever_waits_for_a_file_gets_it_although_its_lock_was_removed(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with held_by_a_child(tmp_path / ".report.html.lock", seconds=0.3, is_temporary=True):
        with writing(path, doing="is writing this report"):
            path.write_text("mine")
        assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_file_that_is_written_too_long_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "WRITING_SECONDS", 0.1)
    with (
        held_by_a_child(tmp_path / ".card.md.lock") as pid,
        pytest.raises(RunError, match=rf"card\.md: another process is writing this card \(pid {pid}\)"),
        writing(tmp_path / "card.md", doing="is writing this card"),
    ):
        pass


def test_a_link_at_the_path_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    """A lock file is emptied, and one beside `--out` lies in a folder that others may write to."""
    (tmp_path / "precious").write_text("all I have")
    (tmp_path / ".report.html.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"), writing(tmp_path / "report.html", doing="writes"):
        pass
    assert (tmp_path / "precious").read_text() == "all I have"
    assert not is_held(tmp_path / ".report.html.lock")


def test_a_child_that_outlives_its_killed_parent_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        with locked(path):
            child = os.fork()
            if child == 0:
                signal.sigtimedwait([], 30)
                os._exit(0)
            os.write(writer, f"{child}\n".encode())
            signal.sigtimedwait([], 30)
        os._exit(0)
    child = int(os.read(reader, 16))
    try:
        assert is_held(path)
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        assert not is_held(path)
        with locked(path):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_run_that_was_removed_while_another_process_waited_is_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with (
        held_by_a_child(path, seconds=0.3, is_temporary=True),
        pytest.raises(RunError, match="the run has just been removed"),
        locked(path, patience=5),
    ):
        pass
    assert not path.exists()
