"""What routes take from a request: the run named in its path, or a form that one of our pages sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, HTTPException
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse

from loraloom.run.folder import Run
from loraloom.text.message import Message
from loraloom.web.pages.jobs import Jobs
from loraloom.web.pages.rendering import FORM_TOKEN, access_of, page
from loraloom.web.pages.run_summaries import RunSummaries


def runs_of(request: Request) -> RunSummaries:
    """Return the runs that the server shows."""
    found: RunSummaries = request.app.state.runs
    return found


def jobs_of(request: Request) -> Jobs:
    """Return the processes that the server started."""
    found: Jobs = request.app.state.jobs
    return found


def named_run(request: Request, name: str) -> Run:
    """Return the run named in a path, or answer 404."""
    found = runs_of(request).find(name)
    if found is None:
        raise HTTPException(404, Message("There is no run with this name."))
    return found


def page_of_run(request: Request, run: Run, section: str, **values: Any) -> HTMLResponse:
    """Answer with one section of a run's pages, from the template that is named after the section."""
    summary = runs_of(request).summary(run)
    return page(
        request, f"{section}.html.j2", section=section, run=summary, run_name=run.folder.name, **values
    )


async def own_form(request: Request) -> AsyncIterator[FormData]:
    """Yield a form that one of our pages sent in this session, or answer 403; close its files afterwards."""
    async with request.form(max_files=20, max_fields=200, max_part_size=4 << 20) as form:
        value = form.get(FORM_TOKEN)
        if not access_of(request).accepts_form(request.scope, value if isinstance(value, str) else None):
            raise HTTPException(
                403,
                Message("The form is too old or was not sent by these pages. Reload the page and try again."),
            )
        yield form


def field(form: FormData, name: str) -> str:
    """Return a text field of a form; "" if the form has no text field of this name."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


NamedRun = Annotated[Run, Depends(named_run)]
OwnForm = Annotated[FormData, Depends(own_form)]
