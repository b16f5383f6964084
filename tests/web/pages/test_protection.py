"""No page runs inline code, changes anything without its own form, or is open if a token is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from loraloom.web.pages.application import OPEN_PATHS, make_access, make_application, make_pages
from loraloom.web.pages.rendering import FOLDER
from tests.web.pages.conftest import copy_run

TOKEN = "a-token-of-enough-characters"
TEMPLATES = sorted((FOLDER / "templates").glob("*.j2"))


def routes(runs: Path) -> list[APIRoute]:
    app = make_pages(runs, make_access("127.0.0.1", None))
    found: list[APIRoute] = []

    def collect(all_routes: list[object]) -> None:
        for route in all_routes:
            if isinstance(route, APIRoute):
                found.append(route)
            elif inner := getattr(getattr(route, "original_router", None), "routes", None):
                collect(inner)

    collect(list(app.routes))
    assert len(found) > 20
    return found


def path_of(route: APIRoute) -> str:
    return route.path.replace("{name}", "finished").replace("{id}", "abc").replace("{format}", "md")


def test_nothing_changes_without_a_form_of_our_own(client: TestClient, runs: Path) -> None:
    copy_run("finished", runs)
    for route in routes(runs):
        if route.methods & {"POST", "PUT", "DELETE", "PATCH"}:
            for form in ({}, {"form_token": "1.2"}):
                answer = client.post(path_of(route), data=form, follow_redirects=False)
                assert answer.status_code in (403, 404), route.path


def test_every_page_needs_the_token(runs: Path) -> None:
    copy_run("finished", runs)
    application = make_application(runs, make_access("127.0.0.1", TOKEN))
    with TestClient(application, base_url="http://127.0.0.1:8700") as client:
        for route in routes(runs):
            if route.path in OPEN_PATHS:
                continue
            method = min(route.methods)
            assert client.request(method, path_of(route), follow_redirects=False).status_code == 401, (
                route.path
            )
        answer = client.get("/runs/finished", headers={"accept": "text/html"}, follow_redirects=False)
        assert answer.headers["location"] == "/login?next=/runs/finished"
        token = client.get("/login").text.partition('name="form_token" value="')[2].partition('"')[0]
        form = {"form_token": token, "next": "/runs/finished"}
        assert client.post("/login", data=form | {"token": "wrong"}).status_code == 403
        answer = client.post("/login", data=form | {"token": TOKEN})
        assert answer.status_code == 200
        assert "finished</h1>" in answer.text


@pytest.mark.parametrize(
    "next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_a_login_leads_to_our_own_pages_only(client: TestClient, next: str) -> None:
    token = client.get("/login").text.partition('name="form_token" value="')[2].partition('"')[0]
    answer = client.post(
        "/login", data={"form_token": token, "next": next, "token": ""}, follow_redirects=False
    )
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_inline_code_or_unescaped_text(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|javascript:|\|\s*safe\b|hx-on|<style", source)
    assert not re.search(r"<script(?![^>]*\ssrc=)", source)
    assert not re.search(r"(?:src|href)=\"https?:", source)


def test_vendored_scripts_have_their_licences_beside_them() -> None:
    folder = FOLDER / "static" / "vendor"
    for script in folder.glob("*.js"):
        name = script.name.removesuffix(".min.js")
        assert (folder / f"{name}.LICENSE.txt").is_file()
        assert script.name in (folder / "README.md").read_text(encoding="utf-8")
