"""The run directory: plain files that any program can read.

    runs/counselling-2026-11-23-1/
      recipe.yaml          the resolved recipe, with every default written out
      provenance.json      versions, fingerprints, and every automatic choice with its reason
      split.json           the part that each row belongs to
      rows/                rows and tokens of data that is not kept in memory; rebuilt if missing
      checks.json          findings of the checks
      events.jsonl         one JSON object per line
      checkpoints/         step-000160/, written by training/checkpoint.py
      lanes/lane-3/        checkpoints of experiments that workers train, written by training/lanes.py
      workers/<name>/      journal and files of processes that have joined (workers/wave_files.py)
      adapters/<name>/     finished adapters, in PEFT's folder format
      failed/<name>/       the same, for the adapter of a failed experiment
      changed/             copies of files that had changed when the run was resumed
      compare/<name>.json  answers and figures
      result.json          how training ended; it exists only if the run is finished
      .sums.json           sha256 of files that are written as a whole, see digests.py

This module defines the paths and the lock, and creates and finds runs.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from loraloom.errors import RunError
from loraloom.run.atomic import staged_path
from loraloom.run.digests import LogDigest
from loraloom.run.documents.document import read_json, to_json
from loraloom.run.events import CheckpointSave, Event, Report, read_events
from loraloom.run.lock import guard_file, locked
from loraloom.text.message import Message, to_data

__all__ = [
    "LOCK_FILE",
    "RUNS_FOLDER",
    "SUMS_FILE",
    "Run",
    "create_run",
    "fresh_folder",
    "list_runs",
    "now",
    "open_run",
    "to_json",
]

RUNS_FOLDER = "runs"
LOCK_FILE = ".lock"
SUMS_FILE = ".sums.json"


@dataclass
class Run:
    """A run directory.

    Args:
        folder: its path; it need not exist yet.
    """

    folder: Path

    def __post_init__(self) -> None:
        self.recipe_file = self.folder / "recipe.yaml"
        self.provenance_file = self.folder / "provenance.json"
        self.split_file = self.folder / "split.json"
        self.checks_file = self.folder / "checks.json"
        self.events_file = self.folder / "events.jsonl"
        self.result_file = self.folder / "result.json"
        self.sums_file = self.folder / SUMS_FILE
        self.checkpoints = self.folder / "checkpoints"
        self.adapters = self.folder / "adapters"
        self.failed = self.folder / "failed"
        self.changed = self.folder / "changed"
        self.comparisons = self.folder / "compare"
        self.rows = self.folder / "rows"
        self._log_digest: LogDigest | None = None
        self._digested_bytes = 0

    @property
    def is_started(self) -> bool:
        """Whether the folder contains a run."""
        return self.recipe_file.is_file() and self.provenance_file.is_file()

    @property
    def is_remnant(self) -> bool:
        """Whether the folder contains only remnants of a process that was killed while creating the run."""
        if self.is_started or not self.folder.is_dir():
            return False
        parts = (self.checkpoints, self.adapters, self.comparisons)
        files = (self.recipe_file, self.split_file, self.provenance_file, self.sums_file)
        found = set(self.folder.iterdir())
        lock = self.folder / LOCK_FILE
        # Rows that were read so far are used again, if they are those of the same data.
        ours = {lock, guard_file(lock), self.rows, *parts, *files, *map(staged_path, files)}
        # Without the lock, only empty folders count, because a lone recipe.yaml may be the user's own.
        is_ours = found <= ours and (lock in found or guard_file(lock) in found or found <= set(parts))
        return is_ours and not any(any(part.iterdir()) for part in parts if part in found)

    @property
    def is_finished(self) -> bool:
        """Whether training ended without being interrupted."""
        return self.result_file.is_file()

    @property
    def started(self) -> str:
        """Time at which the run was started, which distinguishes its log from another run's."""
        try:
            return str(json.loads(self.provenance_file.read_bytes())["started"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return ""

    def read_json(self, path: Path) -> Any:
        """Read one of the run's JSON files.

        Raises:
            RunError: the file is missing or is not JSON.
        """
        return read_json(path)

    @contextmanager
    def locked(self, note: str = "") -> Iterator[None]:
        """Hold the lock of this directory during a `with` block.

        Args:
            note: one line for other processes, as in `lock.locked`.

        Raises:
            RunError: another process holds it; the message has its process id.
        """
        with locked(self.folder / LOCK_FILE, note=note):
            yield

    def append_event(self, event: Event) -> None:
        """Append one line to events.jsonl: `{"event": …, "time": …, …}`. It must never contain a row's text.

        The line of a saved checkpoint ends with the sha256 of the log up to it, see `integrity.log_problem`.

        Raises:
            RunError: the log cannot be written.
        """
        try:
            line = json.dumps(to_data(event.at(now()).to_json()), ensure_ascii=False, allow_nan=False)
            # A line is appended in one write, so a crash truncates only the last line, which readers skip.
            with self.events_file.open("ab+") as file:
                end = _end_of_cut_line(file)
                if isinstance(event, CheckpointSave):
                    line = self._digest_up_to_now(file, end.encode()).closed(line)
                file.write(f"{end}{line}\n".encode())
                if event.is_durable:
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise RunError(
                Message("cannot be written: {strerror}", strerror=(error.strerror or error)),
                where=str(self.events_file),
                fix=Message("Free some space, then resume with --resume."),
            ) from None

    def _digest_up_to_now(self, log: BinaryIO, end: bytes) -> LogDigest:
        """Return the digest of the log followed by `end`; only what was added since the last save is read."""
        size = log.seek(0, os.SEEK_END)
        if self._log_digest is None or size < self._digested_bytes:
            self._log_digest, self._digested_bytes = LogDigest(self.started), 0
        log.seek(self._digested_bytes)
        while content := log.read(2**20):
            self._log_digest.add(content)
        self._log_digest.add(end)
        self._digested_bytes = size + len(end)
        return self._log_digest

    def recorder(self, report: Report) -> Report:
        """Return a `Report` that appends each event to events.jsonl and passes it on.

        Args:
            report: called with the event afterwards.
        """

        def record(event: Event) -> None:
            self.append_event(event)
            report(event)

        return record

    def events(self) -> list[Event]:
        """Return all events in order; of those with the same (step, experiment, event), only the last."""
        if not self.events_file.is_file():
            return []
        return read_events(self.events_file.read_text(encoding="utf-8", errors="replace").split("\n"))


def _end_of_cut_line(file: BinaryIO) -> str:
    """Return a line break to write before the next line if a crash truncated the last one; otherwise ""."""
    if file.tell() == 0:
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"


def now() -> str:
    """Return the current time to the second, with time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def create_run(folder: Path) -> Run:
    """Create a run directory that only its owner can read, and its subfolders.

    A folder left by a process that was killed while creating a run is reused.

    Raises:
        RunError: the folder exists and is not empty, or cannot be written to.
    """
    is_new = not folder.exists() or Run(folder).is_remnant
    if (folder / LOCK_FILE).exists():
        with Run(folder).locked():  # raises an error that names the process that is using it
            pass
    if not is_new and (not folder.is_dir() or any(folder.iterdir())):
        fix = (
            Message("Choose another `--out`, or resume this run with `--resume`.")
            if Run(folder).is_started
            else ""
        )
        raise RunError(
            Message("the run directory must be new or empty"),
            where=str(folder),
            fix=fix or Message("Choose another `--out`."),
        )
    run = Run(folder)
    try:
        for part in (folder, run.checkpoints, run.adapters, run.comparisons):
            part.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise RunError(
            Message("the run directory cannot be created: {strerror}", strerror=error.strerror),
            where=str(folder),
            fix=Message("Choose a writable folder with --out."),
        ) from None
    return run


def open_run(folder: Path) -> Run:
    """Open an existing run.

    Raises:
        RunError: there is no such run; the message lists the runs in the same folder.
    """
    run = Run(folder)
    if not run.is_started:
        if run.is_remnant:
            fix = Message("Start it again: `loraloom train RECIPE --out {folder}`.", folder=folder)
            raise RunError(
                Message("this run was interrupted while it was being created"), where=str(folder), fix=fix
            )
        if folder.is_dir():
            lacking = run.provenance_file if run.recipe_file.is_file() else run.recipe_file
            raise RunError(
                Message("this folder is not a run, because it has no {name}", name=lacking.name),
                where=str(folder),
            )
        near = [other.folder.name for other in list_runs(folder.parent)]
        raise RunError(
            Message("there is no such run"),
            where=str(folder),
            allowed=", ".join(near[-5:]),
            fix=Message("`loraloom runs` lists the runs.")
            if near
            else Message("`loraloom train` creates a run."),
        )
    return run


def list_runs(folder: Path) -> list[Run]:
    """List the runs in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [Run(path) for path in folder.iterdir() if path.is_dir()]
    return sorted((run for run in found if run.is_started), key=lambda run: run.recipe_file.stat().st_mtime)


def fresh_folder(name: str, parent: Path = Path(RUNS_FOLDER)) -> Path:
    """Return a path for a new run: name, date, and the first free number."""
    stem = re.sub(r"[^\w\-]+", "-", name).strip("-") or "run"
    day = datetime.date.today().isoformat()
    number = 1
    while (parent / f"{stem}-{day}-{number}").exists():
        number += 1
    return parent / f"{stem}-{day}-{number}"
