"""The web application: all pages, behind the checks of `web/security.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from loraloom.errors import LoRALoomError
from loraloom.report import page as report_page
from loraloom.text.message import Message
from loraloom.web.body_limit import App
from loraloom.web.pages import (
    compare_pages,
    data_pages,
    experiment_pages,
    login_pages,
    new_run_pages,
    run_list_pages,
    run_pages,
)
from loraloom.web.pages.jobs import Jobs
from loraloom.web.pages.questions import Questions
from loraloom.web.pages.rendering import FOLDER, page, problems_of
from loraloom.web.pages.run_pages import LiveLogs
from loraloom.web.pages.run_summaries import RunSummaries
from loraloom.web.pages.split_rows import SplitCache
from loraloom.web.security import Access, Refusal, SecurityMiddleware

LOGIN = "/login"
OPEN_PATHS = frozenset({LOGIN, "/health", "/static/"})
MOST_UPLOAD_BYTES = 256 << 20


def make_access(
    host: str,
    token: str | None,
    allowed_hosts: frozenset[str] = frozenset(),
    max_upload_bytes: int = MOST_UPLOAD_BYTES,
) -> Access:
    """Return the settings of who may use the pages, and of how large uploads may be.

    Raises:
        RecipeError: an address other than a loopback address is bound without a token.
    """
    return Access(
        host=host,
        token=token,
        allowed_hosts=allowed_hosts,
        open_paths=OPEN_PATHS,
        login_path=LOGIN,
        body_limits={"/new/upload": max_upload_bytes},
        body_seconds=300.0,
    )


def make_pages(runs: Path, access: Access) -> FastAPI:
    """Create the application without the checks that `SecurityMiddleware` adds around it.

    Args:
        runs: the folder of the runs.
        access: who may use the pages.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        app.state.questions.end()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.access = access
    app.state.runs = RunSummaries(runs)
    app.state.jobs = Jobs(runs)
    app.state.logs = LiveLogs()
    app.state.splits = SplitCache()
    app.state.questions = Questions(runs)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.add_api_route("/report.css", _style_of_report)
    app.add_api_route("/report.js", _script_of_report)
    app.add_api_route("/health", _health)
    app.add_api_route("/", lambda: RedirectResponse("/runs"))
    rooms = (
        login_pages,
        run_list_pages,
        new_run_pages,
        run_pages,
        experiment_pages,
        data_pages,
        compare_pages,
    )
    for room in rooms:
        app.include_router(room.router)
    app.add_exception_handler(LoRALoomError, _refused)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def make_application(runs: Path, access: Access) -> App:
    """Create the application of the pages, behind the checks of `SecurityMiddleware`."""
    return SecurityMiddleware(make_pages(runs, access), access, _refusal_page)


def _style_of_report() -> Response:
    return FileResponse(report_page.FOLDER / "page.css", media_type="text/css")


def _script_of_report() -> Response:
    return FileResponse(report_page.FOLDER / "page.js", media_type="text/javascript")


def _health() -> dict[str, str]:
    return {"status": "ok"}


async def _refused(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, LoRALoomError)
    return page(
        request,
        "problem.html.j2",
        status=409,
        title=Message("This did not work"),
        problems=problems_of(error),
    )


async def _http_error(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, HTTPException)
    title = Message("There is no such page") if error.status_code == 404 else Message("This did not work")
    detail = error.detail if isinstance(error.detail, Message) else ""
    return page(
        request, "problem.html.j2", status=error.status_code, title=title, problems=[detail] if detail else []
    )


def _refusal_page(refusal: Refusal) -> tuple[bytes, str]:
    """Return a refusal as plain text: the client may be a program, or may not be allowed to see any page."""
    return f"{refusal.message}\n".encode(), "text/plain; charset=utf-8"
