"""Processes started from the web pages, each with its own folder in `RUNS/.pages/jobs`."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from loraloom.errors import RunError
from loraloom.run.documents.checks import Finding
from loraloom.run.events import BaseChoices, CheckResults, Event, Note, RowCounts, WarningNote
from loraloom.run.own_process import module_command, module_environment
from loraloom.text.message import Message, from_data
from loraloom.web.pages.job_process import EVENTS, LOG, OUTCOME, REQUEST

PAGES_FOLDER = ".pages"
PID = "pid"
MOST_KEPT = 50
MOST_RUNNING = 4
_LAST_CHARACTERS = 2000
_KINDS: Mapping[str, type[Event]] = {
    kind.kind: kind for kind in (BaseChoices, CheckResults, Note, RowCounts, WarningNote)
}


@dataclass(frozen=True)
class Job:
    """A process started from the web pages.

    Args:
        id: name of its folder.
        kind: `check`, `train`, `resume` or `compare`.
        run: name of the run that it works on; "" if it works on no run.
        status: `running`, `done`, `failed` or `stopped`.
        problems: what went wrong.
        events: events that it reported.
        outcome: content of its outcome.json.
        draft: id of the draft that it was started from; "" if it was not started from a draft.
    """

    id: str
    kind: str
    run: str
    status: str
    problems: tuple[str, ...]
    events: tuple[Event, ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    draft: str = ""

    @property
    def notes(self) -> list[str]:
        """The notes and warnings that the process reported."""
        return [event.message for event in self.events if isinstance(event, Note | WarningNote)]

    @property
    def findings(self) -> list[Finding]:
        """The findings of the checks that the process ran."""
        if "findings" in self.outcome:
            return [_finding(entry) for entry in self.outcome["findings"]]
        return [
            finding for event in self.events if isinstance(event, CheckResults) for finding in event.findings
        ]


def _finding(entry: Mapping[str, Any]) -> Finding:
    texts = {key: from_data(entry[key]) for key in ("where", "message", "fix")}
    return Finding(level=entry["level"], check=entry["check"], **texts)


@dataclass
class Jobs:
    """The processes started from the web pages.

    Args:
        runs: the folder of the runs.
        starts: lock that is held while a new run is named and started, so that names are unique.
    """

    runs: Path
    starts: threading.Lock = field(default_factory=threading.Lock)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """The folder that contains the folders of all jobs."""
        return self.runs / PAGES_FOLDER / "jobs"

    def start(self, kind: str, *, run: str = "", **request: Any) -> Job:
        """Start a process; if one of this kind is already running for the run, return that one instead.

        Args:
            kind: as in `Job`.
            run: name of the run that the process works on; "" if it works on no run.
            request: additional keys for the request.json of the process.

        Raises:
            RunError: too many processes are running, a process is doing another kind of work on the run, or
                the process cannot be started.
        """
        with self._mutex:
            if (same := self._already_running(kind, run)) is not None:
                return same
            if sum(process.poll() is None for process in self._processes.values()) >= MOST_RUNNING:
                raise RunError(
                    Message(
                        "{number} processes that these pages started are still running", number=MOST_RUNNING
                    ),
                    fix=Message("Wait until one of them has finished, or stop one."),
                )
            id = secrets.token_hex(8)
            own = self.folder / id
            try:
                own.mkdir(parents=True, mode=0o700)
                text = json.dumps({"kind": kind, "name": run, **request}, ensure_ascii=False)
                (own / REQUEST).write_text(text, encoding="utf-8")
                self._processes[id] = _start(own)
            except OSError as error:
                raise RunError(
                    Message("cannot be written: {reason}", reason=error.strerror or str(error)),
                    where=str(own),
                ) from None
            self._forget_oldest()
        found = self.find(id)
        assert found is not None
        return found

    def _already_running(self, kind: str, run: str) -> Job | None:
        """Return the running process that does this kind of work on a run; None if there is none.

        Raises:
            RunError: a process is doing another kind of work on the run.
        """
        newest = self.of_run(run) if run else None
        if newest is None or newest.status != "running":
            return None
        if newest.kind != kind:
            raise RunError(Message("a process is already working on this run"), where=run)
        return newest

    def starting(self, draft: str) -> Job | None:
        """Return the training job of a draft whose run does not exist yet; None if there is no such job."""
        for job in map(self._read, self._folders()):
            if job.kind == "train" and job.draft == draft and job.status == "running":
                return None if (self.runs / job.run / "provenance.json").is_file() else job
        return None

    def names_taken(self) -> set[str]:
        """Return the names of the runs that processes work on; some of these runs may not exist yet."""
        return {job.run for job in map(self._read, self._folders()) if job.status == "running"}

    def find(self, id: str) -> Job | None:
        """Return the job with this id; the id is looked up, never joined to a path."""
        return next((self._read(own) for own in self._folders() if own.name == id), None)

    def of_run(self, name: str) -> Job | None:
        """Return the newest job that works, or worked, on a run."""
        return next((job for own in self._folders() if (job := self._read(own)).run == name), None)

    def failed_starts(self) -> list[Job]:
        """List training jobs that failed before they had created their run, newest first."""
        jobs = [self._read(own) for own in self._folders()]
        return [
            job
            for job in jobs
            if job.kind == "train"
            and job.status == "failed"
            and not (self.runs / job.run / "provenance.json").is_file()
        ]

    def discard(self, id: str) -> None:
        """Remove the folder of a job that has ended."""
        job = self.find(id)
        if job is not None and job.status != "running":
            shutil.rmtree(self.folder / job.id, ignore_errors=True)

    def _folders(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if (path / REQUEST).is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def _forget_oldest(self) -> None:
        for own in self._folders()[MOST_KEPT:]:
            if self._read(own).status != "running":
                shutil.rmtree(own, ignore_errors=True)

    def _read(self, own: Path) -> Job:
        request = json.loads((own / REQUEST).read_text(encoding="utf-8"))
        events = tuple(_events(_text(own / EVENTS)))
        status = "running"
        problems: tuple[str, ...] = ()
        outcome: dict[str, Any] = {}
        if (own / OUTCOME).is_file():
            outcome = json.loads((own / OUTCOME).read_text(encoding="utf-8"))
            status, problems = outcome["status"], tuple(map(from_data, outcome["problems"]))
        elif not self._is_running(own):
            status, problems = "failed", (self._end(own),)
        return Job(
            own.name,
            request["kind"],
            request["name"],
            status,
            problems,
            events,
            outcome,
            request.get("draft", ""),
        )

    def _end(self, own: Path) -> Message:
        """Describe why a process ended without writing outcome.json."""
        process = self._processes.get(own.name)
        code = (process and process.returncode) or 0
        if code == -getattr(signal, "SIGKILL", 9):  # Windows lacks it
            return Message("the process was killed, possibly for lack of memory")
        if code < 0:
            return Message("the process was ended by signal {code}", code=-code)
        last = _text(own / LOG).strip()[-_LAST_CHARACTERS:]
        return Message("the process ended without a result: {last}", last=last or "–")

    def _is_running(self, own: Path) -> bool:
        process = self._processes.get(own.name)
        if process is not None:
            return process.poll() is None
        text = _text(own / PID)  # started by an earlier server of these pages
        try:
            return text.isdigit() and str(own) in psutil.Process(int(text)).cmdline()
        except psutil.Error:
            return False


def _start(own: Path) -> subprocess.Popen[bytes]:
    """Start a job's process in its own session, so that Ctrl-C in the server's terminal does not end it."""
    with (own / LOG).open("wb") as log:
        process = subprocess.Popen(
            module_command("loraloom.web.pages.job_process", own),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=module_environment(TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1"),
        )
    (own / PID).write_text(str(process.pid), encoding="ascii")
    return process


def _events(text: str) -> Iterator[Event]:
    """Yield the events that a job reported; skip invalid lines, because the last may be incomplete."""
    for line in text.split("\n"):
        try:
            values = json.loads(line)
            yield _KINDS[values["event"]].from_json(values)
        except (ValueError, KeyError, TypeError):  # pydantic's errors are ValueErrors
            continue


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
