"""The pages speak the language that a browser chose, else the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from loraloom.web.pages.languages import COOKIE, language_of
from tests.web.pages.conftest import copy_run


def test_the_switch_changes_the_language_of_every_page(
    client: TestClient, runs: Path, form_token: Callable[[], str]
) -> None:
    copy_run("finished", runs)
    pages = ("/runs", "/new", "/runs/finished", "/runs/finished/experiments", "/runs/finished/data")
    assert all('<html lang="en"' in client.get(page).text for page in pages)
    answer = client.post(
        "/language",
        data={"language": "zh", "next": "/runs", "form_token": form_token()},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/runs"
    for page in pages:
        text = client.get(page).text
        assert '<html lang="zh-CN"' in text, page
        assert "运行" in text, page
        assert ">English</button>" in text


@pytest.mark.parametrize(
    ("cookie", "environment", "expected"),
    [
        ("", {}, "en"),
        ("", {"LANG": "zh_CN.UTF-8"}, "zh"),
        ("", {"LORALOOM_LANG": "zh", "LANG": "en_US.UTF-8"}, "zh"),
        ("en", {"LORALOOM_LANG": "zh"}, "en"),
        ("../zh", {}, "en"),
    ],
)
def test_the_cookie_goes_before_the_environment(
    cookie: str, environment: dict[str, str], expected: str
) -> None:
    assert language_of({COOKIE: cookie}, environment) == expected
