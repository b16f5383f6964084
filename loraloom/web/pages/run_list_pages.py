"""The list of all runs."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from loraloom.web.pages.rendering import page
from loraloom.web.pages.requests import OwnForm, jobs_of, runs_of

router = APIRouter()
RUNS_A_PAGE = 50


@router.get("/runs")
def list_of_runs(request: Request, number: int = 1) -> Response:
    """Show the runs, newest first."""
    summaries = runs_of(request)
    runs = summaries.runs()
    num_pages = max(1, -(-len(runs) // RUNS_A_PAGE))
    number = min(max(1, number), num_pages)
    shown = summaries.summaries(runs[(number - 1) * RUNS_A_PAGE : number * RUNS_A_PAGE])
    return page(
        request,
        "runs.html.j2",
        runs=shown,
        num_runs=len(runs),
        folder=_shown(summaries.folder),
        failed_starts=jobs_of(request).failed_starts(),
        number=number,
        num_pages=num_pages,
    )


@router.post("/jobs/{id}/discard")
async def discard_job(request: Request, id: str, form: OwnForm) -> Response:
    """Delete the job of a run that failed to start, so that the list no longer shows it."""
    jobs_of(request).discard(id)
    return RedirectResponse("/runs", status_code=303)


def _shown(folder: Path) -> str:
    """Return a folder relative to the server's working directory, if it is below that directory."""
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
