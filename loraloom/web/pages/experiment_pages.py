"""The page on a run's experiments: ranking, figures, their answers side by side, the recommended recipe."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from loraloom.commands.report import render_report
from loraloom.errors import LoRALoomError
from loraloom.report.content import read_content
from loraloom.report.page import page_values
from loraloom.web.pages.rendering import problems_of
from loraloom.web.pages.requests import NamedRun, page_of_run

router = APIRouter()
TYPES = {"md": "text/markdown", "json": "application/json", "csv": "text/csv", "recipe": "application/yaml"}
SUFFIXES = {"recipe": "recommended.yaml"}


@router.get("/runs/{name}/experiments")
def experiments(request: Request, run: NamedRun, comparison: str = "") -> Response:
    """Show the content of the report, computed from the run's current files."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    try:
        values = page_values(read_content(run.folder, comparison or None))
    except LoRALoomError as error:
        problems = problems_of(error)
    return page_of_run(request, run, "experiments", chosen=comparison, problems=problems, **values)


@router.get("/runs/{name}/report.{format}")
def download(run: NamedRun, format: str) -> Response:
    """Download the results as a file, as `loraloom report --format` writes it."""
    if format not in TYPES:
        return Response(status_code=404)
    text = render_report(run.folder, format)
    name = SUFFIXES.get(format, f"report.{format}")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type=TYPES[format], headers=headers)
