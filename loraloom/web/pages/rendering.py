"""Templates of the pages, rendered in the language of the request."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse

from loraloom.errors import LoRALoomError
from loraloom.report import page as report_page
from loraloom.report.visible_text import last_part
from loraloom.text import units
from loraloom.text.catalogue import rendered, use_catalogue
from loraloom.text.language import catalogue_of
from loraloom.web.pages import languages
from loraloom.web.security import Access

FOLDER = Path(__file__).parent
FORM_TOKEN = "form_token"
# No content of a page is kept in the browser's storage, and no inline code runs.
HTMX_SETTINGS = json.dumps(
    {
        "includeIndicatorStyles": False,
        "allowEval": False,
        "allowScriptTags": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        # By default, htmx drops the page of an error, and a button would appear to do nothing.
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "[45]..", "swap": True, "error": True, "select": "#content > *", "ignoreTitle": True},
        ],
    }
)


@cache
def environment() -> Environment:
    """Return the environment of the pages' templates, which can include those of the report."""
    report = report_page.environment()
    made = report.overlay(
        loader=ChoiceLoader([FileSystemLoader(FOLDER / "templates"), FileSystemLoader(report_page.FOLDER)])
    )
    made.globals = dict(report.globals) | {
        "languages": languages.NAMES,
        "htmx_settings": HTMX_SETTINGS,
    }
    made.filters = dict(report.filters) | {
        "rate": units.figure,
        "said": rendered,
        "shortened_name": last_part,
    }
    return made


def access_of(request: Request) -> Access:
    """Return the server's `Access`: who may use it."""
    access: Access = request.app.state.access
    return access


def fragment(request: Request, template: str, **values: Any) -> str:
    """Render a template in the language of a request."""
    language = languages.language_of(request.cookies)
    with use_catalogue(catalogue_of(language)):
        return (
            environment()
            .get_template(template)
            .render(
                chosen_language=language,
                here=request.url.path,
                form_token=access_of(request).form_token(request.scope),
                is_open=access_of(request).token is None,
                **values,
            )
        )


def page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Answer a request with a rendered template."""
    return HTMLResponse(fragment(request, template, **values), status_code=status)


def run_address(name: str) -> str:
    """Return the path of a run's page, percent-encoded: names may contain `#`, `?`, `%` or non-ASCII text."""
    return f"/runs/{quote(name, safe='')}"


def problems_of(error: LoRALoomError) -> list[str]:
    """Return a message for each problem of an error."""
    return [problem.as_message() for problem in error.problems]
