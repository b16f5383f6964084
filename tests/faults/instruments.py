"""Die by SIGKILL at a chosen file operation or function call; installed in a forked child only.

A *power cut* goes further than SIGKILL, after which the kernel still writes what it has: what no
fsync covered is taken back first. Contents are cut in half, names that the folder's own fsync did
not cover vanish, and renames are undone.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import io
import os
import re
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = set("wax+")
HELD_SECONDS = 30.0
NEEDS_ROOM = ("mkdir", "open", "write")


def die() -> None:
    """As `kill -9` from outside: nothing is flushed, no `finally` runs."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave_a_worker_and_die(pid_file: Path) -> None:
    """As a process with workers that is killed: the child lives on, with every descriptor it inherited."""
    child = os.fork()
    if child == 0:
        time.sleep(HELD_SECONDS)
        os._exit(0)
    pid_file.write_text(str(child))
    die()


def limit_memory(room_mib: int) -> None:
    """From now on this process may take so much address space more than it has."""
    status = Path("/proc/self/status").read_text()
    taken = int(re.search(r"VmSize:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (taken + room_mib * 2**20, resource.RLIM_INFINITY))


def hold(reached: Path, go: Path, seconds: float = HELD_SECONDS) -> None:
    """Tell a test that this point is reached, and stay here until it says so; signals arrive meanwhile."""
    reached.touch()
    deadline = time.monotonic() + seconds
    while not go.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def at_call(name: str, number: int, how: str, act: Callable[[], None]) -> None:
    """Act before or after the call of this number (from 1) of a function, `package.module:Class.name`."""
    module_name, _, path = name.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, attribute = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, attribute)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        is_it = calls == number
        if is_it and how == "before":
            act()
        result = original(*args, **kwargs)
        if is_it and how == "after":
            act()
        return result

    setattr(owner, attribute, counted)


class FileOperations:
    """Counts what changes files below a folder, keeps a log, and dies at one of them.

    Args:
        root: operations elsewhere are not counted.
        log: gets a line `name path` for every operation.
        number: at which to die, from 1; 0 for none.
        how: `before` or `after` it, or `half` way through a write. Two do not die: `full`, from then on
            the disk is full; `broken`, this one operation fails with an I/O error.
        is_power_cut: take back what is not on the disk.
    """

    def __init__(self, root: Path, log: Path, number: int = 0, how: str = "before", *, is_power_cut: bool):
        self.root = str(root)
        self.number, self.how, self.is_power_cut = number, how, is_power_cut
        self.count = 0
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.attic = Path(tempfile.mkdtemp(dir=log.parent))
        self.undo: list[tuple[str, str, Callable[[], None]]] = []
        self.rename, self.mkdir, self.fsync, self.open = os.rename, os.mkdir, os.fsync, io.open

    def install(self) -> None:
        """Put the instrumented operations in the place of Python's."""
        for name in ("rename", "replace"):
            setattr(os, name, self._renaming(getattr(os, name), name))
        for name in ("unlink", "rmdir"):
            setattr(os, name, self._removing(getattr(os, name), name))
        os.mkdir = self._mkdir  # type: ignore[assignment]
        os.fsync = self._fsync  # type: ignore[assignment]
        io.open = builtins.open = self._open  # type: ignore[assignment]

    def _happen(
        self, name: str, path: str, act: Callable[[], Any], half: Callable[[], Any] | None = None
    ) -> Any:
        self.count += 1
        os.write(self.log, f"{name} {path}\n".encode())
        if self.how == "full" and 0 < self.number <= self.count and name in NEEDS_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if self.how == "broken" and self.count == self.number:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        is_last = self.count == self.number and self.how not in ("full", "broken")
        if is_last and self.how == "before":
            self._die()
        if is_last and self.how == "half" and half is not None:
            half()
            self._die()
        try:
            return act()
        finally:  # mkdir of what is there already fails, and is an operation too
            if is_last:
                self._die()

    def _die(self) -> None:
        if self.is_power_cut:
            for _, _, take_back in reversed(self.undo):
                with contextlib.suppress(OSError):
                    take_back()
        die()

    def _covers(self, path: str) -> bool:
        return path == self.root or path.startswith(f"{self.root}/")

    def _renaming(self, original: Callable[..., None], name: str) -> Callable[..., None]:
        def rename(source: Any, target: Any, **kwargs: Any) -> None:
            old, new = _absolute(source), _absolute(target)
            if not self._covers(new):
                return original(source, target, **kwargs)
            kept = self.attic / str(self.count)
            if os.path.isfile(new):  # noqa: PTH113
                os.link(new, kept)

            def back() -> None:
                self.rename(new, old)
                if kept.exists():
                    self.rename(kept, new)

            self._happen(name, new, lambda: original(source, target, **kwargs))
            self.undo.append(("name", new, back))
            return None

        return rename

    def _removing(self, original: Callable[..., None], name: str) -> Callable[..., None]:
        def remove(path: Any, *, dir_fd: int | None = None) -> None:
            whole = _absolute(path, dir_fd)
            act = lambda: original(path, dir_fd=dir_fd)  # noqa: E731
            return self._happen(name, whole, act) if self._covers(whole) else act()

        return remove

    def _mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        whole = _absolute(path, dir_fd)
        if not self._covers(whole):
            return self.mkdir(path, mode, dir_fd=dir_fd)
        self._happen("mkdir", whole, lambda: self.mkdir(path, mode, dir_fd=dir_fd))
        if whole != self.root:
            self.undo.append(("name", whole, lambda: shutil.rmtree(whole)))
        return None

    def _fsync(self, file: Any) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        path = _of_descriptor(descriptor)
        if not self._covers(path):
            return self.fsync(descriptor)
        self._happen("fsync", path, lambda: self.fsync(descriptor))
        if os.path.isdir(path):  # noqa: PTH112
            self.undo = [u for u in self.undo if u[0] != "name" or os.path.dirname(u[1]) != path]  # noqa: PTH120
        else:
            inode = str(os.fstat(descriptor).st_ino)
            self.undo = [u for u in self.undo if (u[0], u[1]) != ("content", inode)]
        return None

    def _open(self, file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        whole = file if isinstance(file, int) else _absolute(file)
        if isinstance(whole, int) or not WRITING & set(mode) or not self._covers(whole):
            return self.open(file, mode, *args, **kwargs)
        is_new = not os.path.exists(whole)  # noqa: PTH110
        opened = self._happen("open", whole, lambda: self.open(file, mode, *args, **kwargs))
        if is_new:
            self.undo.append(("name", whole, lambda: os.unlink(whole)))  # noqa: PTH108
        inode = str(os.fstat(opened.fileno()).st_ino)
        if not any(u[:2] == ("content", inode) for u in self.undo):
            kept = os.dup(opened.fileno())
            self.undo.append(("content", inode, lambda: os.ftruncate(kept, os.fstat(kept).st_size // 2)))
        return _CountedFile(self, opened, whole)


class _CountedFile:
    """A file open for writing whose writes are counted, and may end half way."""

    def __init__(self, operations: FileOperations, file: Any, path: str):
        self._operations, self._file, self._path = operations, file, path

    def write(self, content: Any) -> Any:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        def whole() -> Any:
            written = self._file.write(content)
            self._file.flush()
            return written

        return self._operations._happen("write", self._path, whole, half)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _CountedFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    text = os.fsdecode(path)
    folder = os.getcwd() if dir_fd is None else _of_descriptor(dir_fd)  # noqa: PTH109
    return os.path.normpath(os.path.join(folder, text))  # noqa: PTH118


def _of_descriptor(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115
