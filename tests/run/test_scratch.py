"""A temporary folder ends with its process, or with the next one's start; nobody else's is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run import lock, scratch
from loraloom.run.scratch import ScratchFolder, remove_leftovers, scratch_folder

HOLDER = """
import sys, time
from loraloom.run.scratch import ScratchFolder
own = ScratchFolder()
(own.path / "rows").write_bytes(b"rows")
print(own.path, flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@contextmanager
def holder(temporary: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a temporary folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    with process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_folder_is_removed_when_it_is_not_used_any_more(temporary: Path) -> None:
    with scratch_folder() as folder:
        (folder / "file").touch()
        assert folder.parent.parent == temporary
        assert folder.parent.stat().st_mode & 0o77 == 0
    assert list(temporary.iterdir()) == []
    own = ScratchFolder()
    assert own.path.is_dir()
    del own
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    with holder(temporary) as (living, kept), holder(temporary) as (killed, left):
        remove_leftovers()
        assert (left / "rows").is_file()
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "rows").is_file()
        with scratch_folder() as own:
            assert not left.parent.exists()
            assert {kept.parent, own.parent} == set(temporary.iterdir())
            assert (kept / "rows").read_bytes() == b"rows"
        assert living.stdin is not None
        living.stdin.write("\n")
        living.stdin.flush()
        living.wait()
    assert list(temporary.iterdir()) == []


def test_what_is_no_folder_of_ours_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = temporary / "precious"
    for folder in (precious, temporary / f"{scratch.PREFIX}somebody", temporary / f"{scratch.PREFIX}new"):
        (folder / scratch.FILES).mkdir(parents=True)
    (precious / scratch.LOCK).touch()
    (temporary / f"{scratch.PREFIX}link").symlink_to(
        precious
    )  # to a folder that looks like one that was left
    inner = temporary / f"{scratch.PREFIX}inner"
    inner.mkdir()
    (inner / scratch.LOCK).touch()
    (inner / scratch.FILES).symlink_to(precious / scratch.FILES)
    (precious / scratch.FILES / "file").touch()
    (temporary / f"{scratch.PREFIX}begun").mkdir()
    (temporary / f"{scratch.PREFIX}begun" / scratch.LOCK).touch()  # its process has not taken the lock yet
    before = sorted(temporary.rglob("*"))
    remove_leftovers()
    assert [path for path in before if not path.exists()] == []
    (temporary / f"{scratch.PREFIX}somebody" / scratch.LOCK).touch()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    remove_leftovers()
    assert (temporary / f"{scratch.PREFIX}somebody").is_dir()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    remove_leftovers()
    assert not (temporary / f"{scratch.PREFIX}somebody").exists()


def test_a_folder_of_another_machine_is_kept_even_if_its_lock_is_free(temporary: Path) -> None:
    for name in ("loraloom-elsewhere-abcd1234", f"{scratch.PREFIX}2-abcd1234", "loraloom-abcd1234"):
        (temporary / name / scratch.FILES).mkdir(parents=True)
        (temporary / name / scratch.LOCK).touch()
    left = temporary / f"{scratch.PREFIX}abcd1234"
    (left / scratch.FILES).mkdir(parents=True)
    (left / scratch.LOCK).touch()
    remove_leftovers()
    assert len(list(temporary.iterdir())) == 3
    assert not left.exists()


def test_a_forked_child_that_ends_leaves_its_parents_folder(temporary: Path) -> None:
    with scratch_folder() as folder:
        child = os.fork()
        if child == 0:
            import weakref

            weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # as at the end of a process
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        looking = "from loraloom.run.scratch import remove_leftovers; remove_leftovers()"
        env = {**os.environ, "TMPDIR": str(temporary)}
        subprocess.run([sys.executable, "-c", looking], env=env, check=True)
        assert folder.is_dir()


def test_without_locks_a_folder_is_made_and_counts_as_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*args: object, **options: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(lock.filelock.FileLock, "acquire", no_locks)
    with scratch_folder() as folder:
        monkeypatch.undo()
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        remove_leftovers()
        assert folder.is_dir()
    assert list(temporary.iterdir()) == []


def test_no_temporary_folder_is_said(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "none"))
    with pytest.raises(RunError, match="no temporary folder can be created: No such file"):
        ScratchFolder()
