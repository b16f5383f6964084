"""The page of one run, updated live while a process works on it: show, stop, resume, compare."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from loraloom.errors import LoRALoomError, RunError
from loraloom.run.documents.provenance import Provenance
from loraloom.run.documents.result import Result
from loraloom.run.folder import Run
from loraloom.run.resuming import is_range_test
from loraloom.text.message import Message
from loraloom.web.pages.event_stream import event, event_stream
from loraloom.web.pages.live_log import LiveLog
from loraloom.web.pages.live_view import live_view
from loraloom.web.pages.rendering import fragment, page, run_address
from loraloom.web.pages.requests import NamedRun, OwnForm, jobs_of, runs_of
from loraloom.web.pages.run_process import process_of, stop_process

router = APIRouter()
POLL_SECONDS = 1.0
# Length of a pause, as a multiple of the preceding work, which takes CPU time from the training.
PAUSE_TIMES = 20
MOST_LOGS = 20


@dataclass
class LiveLogs:
    """The logs that are being followed, each read only once for all browsers."""

    _logs: dict[str, LiveLog] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def of(self, run: Run) -> LiveLog:
        """Return the log of a run."""
        with self._mutex:
            key = str(run.events_file)
            log = self._logs.pop(key, None) or LiveLog(run.events_file)
            self._logs[key] = log
            while len(self._logs) > MOST_LOGS:
                del self._logs[next(iter(self._logs))]
            return log


@router.get("/runs/{name}")
def one_run(request: Request, run: NamedRun) -> Response:
    """Show a run."""
    return page(request, "run.html.j2", section="run", **_state(request, run))


@router.get("/runs/{name}/live")
async def follow(request: Request, run: NamedRun) -> Response:
    """Send the page's live part whenever it changes, until no process works on the run."""

    async def events() -> AsyncIterator[str]:
        before = ""
        while not await request.is_disconnected():
            began = time.monotonic()
            html, is_active = await run_in_threadpool(_live_part, request, run)
            worked = time.monotonic() - began
            if html != before:
                yield event("live", html)
                before = html
            if not is_active:
                yield event("ended", "")
                return
            await asyncio.sleep(max(POLL_SECONDS, PAUSE_TIMES * worked))

    return event_stream(events())


@router.post("/runs/{name}/stop")
async def stop(request: Request, run: NamedRun, form: OwnForm) -> Response:
    """Stop a run as SIGTERM does: the step is finished and saved."""
    await run_in_threadpool(stop_process, run)
    return RedirectResponse(run_address(run.folder.name), status_code=303)


@router.post("/runs/{name}/resume")
async def resume(request: Request, run: NamedRun, form: OwnForm) -> Response:
    """Resume a run as `--resume` does; a second click does not start a second process."""
    await run_in_threadpool(_start_resume, request, run)
    return RedirectResponse(run_address(run.folder.name), status_code=303)


def _start_resume(request: Request, run: Run) -> None:
    job = jobs_of(request).of_run(run.folder.name)
    is_ours = job is not None and job.kind == "resume" and job.status == "running"
    if process_of(run) is not None and not is_ours:
        raise RunError(Message("a process is already working on this run"), where=run.folder.name)
    jobs_of(request).start("resume", run=run.folder.name, run_folder=str(run.folder.resolve()))


@router.post("/runs/{name}/compare-rows")
async def compare_rows(request: Request, run: NamedRun, form: OwnForm) -> Response:
    """Compare as `loraloom compare` does: base and adapters answer the test rows, or else the eval rows."""
    jobs, name = jobs_of(request), run.folder.name
    await run_in_threadpool(lambda: jobs.start("compare", run=name, run_folder=str(run.folder.resolve())))
    return RedirectResponse(run_address(name), status_code=303)


def _live_part(request: Request, run: Run) -> tuple[str, bool]:
    state = _state(request, run)
    return fragment(request, "live.html.j2", **state), state["is_active"]


def _peak_bytes(run: Run) -> int | None:
    """Return the peak memory of a run that has ended; None if it is unknown."""
    try:
        return Result.read(run.result_file).peak_bytes if run.is_finished else None
    except LoRALoomError:
        return None


def _state(request: Request, run: Run) -> dict[str, Any]:
    """Return the current content of a run's page; never raise an error, even if files are damaged."""
    # The process first: if it ends meanwhile, the page is rendered once more with its last files.
    process, job = process_of(run), jobs_of(request).of_run(run.folder.name)
    is_starting = job is not None and job.status == "running"
    summary = runs_of(request).summary(run)
    live, known = None, None
    if summary.state != "damaged":
        try:
            known = Provenance.read(run.provenance_file)
        except LoRALoomError:  # changed since the summary was made
            known = None
    if known is not None and not is_range_test(run):
        live = live_view(request.app.state.logs.of(run).read(), known.seeds, known.waves)
    prediction = None if known is None else known.prediction
    return {
        "run": summary,
        "run_name": run.folder.name,
        "process": process,
        "job": job,
        "live": live,
        "is_active": process is not None or is_starting,
        "is_working": process is not None,
        "is_finished": run.is_finished,
        "can_resume": process is None and not is_starting and not run.is_finished and not is_range_test(run),
        "can_compare": run.is_finished and process is None and not is_starting and not is_range_test(run),
        "peak_bytes": _peak_bytes(run),
        "predicted_bytes": None if prediction is None else prediction.memory.peak_bytes,
    }
