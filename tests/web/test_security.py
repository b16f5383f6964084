"""Who may use a server: token, Host, Origin, sessions, forms, sizes, and the headers of every answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from loraloom.errors import RecipeError
from loraloom.web import body_limit
from loraloom.web.body_limit import Event, Scope
from loraloom.web.security import Access, SecurityMiddleware
from loraloom.web.tokens import SignedTokens, read_token
from tests.web.requests import ask, echo

TOKEN = "a-token-of-many-characters"
LOCAL = SecurityMiddleware(echo, Access())
OPEN = frozenset({"/login", "/static/"})
GUARDED = SecurityMiddleware(echo, Access(token=TOKEN, login_path="/login", open_paths=OPEN))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gpu7.example.org"])
def test_an_address_that_others_can_reach_demands_a_token(host: str) -> None:
    with pytest.raises(RecipeError, match="requires a token"):
        Access(host=host)
    Access(host=host, token=TOKEN)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_a_loopback_address_needs_none(host: str) -> None:
    Access(host=host)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("localhost@attacker.example", 421),
        ("10.0.0.1", 421),
        ("", 421),
        ("[::1", 421),
    ],
)
def test_only_names_of_this_machine_are_answered(host: str, status: int) -> None:
    assert ask(LOCAL, host=host).status == status


def test_a_server_for_others_answers_to_addresses_and_to_names_it_was_given() -> None:
    access = Access(host="0.0.0.0", token=TOKEN, allowed_hosts=frozenset({"gpu7.example.org"}))
    assert access.answers_to("10.0.0.1:8000")
    assert access.answers_to("GPU7.example.org")
    assert not access.answers_to("attacker.example")
    assert not Access(host="10.0.0.1", token=TOKEN).answers_to("10.0.0.2")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "origin": "http://127.0.0.1:8000"},
    ],
)
def test_pages_of_other_origins_cannot_write(headers: dict[str, str]) -> None:
    answer = ask(LOCAL, method="POST", **headers)
    assert answer.status == 403
    assert json.loads(answer.body)["error"]["code"] == "cross_origin"


def test_own_pages_and_programs_can() -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec_fetch_site": "same-origin"}
    assert ask(LOCAL, method="POST", **own).status == 200
    assert ask(LOCAL, method="POST").status == 200


def test_a_token_is_demanded_and_wrong_ones_are_refused() -> None:
    assert ask(GUARDED, authorization=f"Bearer {TOKEN}").status == 200
    for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": TOKEN}, {"authorization": "Bearer ü"}):
        answer = ask(GUARDED, **wrong)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN.encode() not in answer.body
    assert ask(GUARDED, "/static/x.js").status == 200
    assert ask(GUARDED, "/login/../runs").status == 401


def test_a_browser_is_sent_to_the_login_page_and_its_session_counts() -> None:
    answer = ask(GUARDED, "/runs/a b", accept="text/html")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=/runs/a%20b")
    scope: Scope = {"type": "http", "server": ("127.0.0.1", 8000), "headers": []}
    cookie, *flags = GUARDED.access.session_cookie(scope).split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
    assert TOKEN not in cookie
    assert ask(GUARDED, cookie=cookie).status == 200
    assert ask(GUARDED, cookie=cookie[:-1] + ("0" if cookie[-1] != "0" else "1")).status == 401


def test_signed_values_count_for_one_purpose_one_session_and_some_time() -> None:
    forms = SignedTokens("form")
    value = forms.issue("session-a")
    assert forms.accepts(value, "session-a")
    assert not forms.accepts(value, "session-b")
    assert not SignedTokens("form").accepts(value, "session-a")
    for wrong in (None, "", ".", "9999999999.", value[:-1], "1" + value):
        assert not forms.accepts(wrong, "session-a")
    assert not (gone := SignedTokens("form", seconds=-5)).accepts(gone.issue())


@pytest.mark.parametrize("headers", [{"content_length": "11"}, {"content_length": "9" * 30}])
def test_a_body_that_says_it_is_too_large_is_refused_unread(headers: dict[str, str]) -> None:
    app = SecurityMiddleware(echo, Access(max_body_bytes=10))
    assert ask(app, method="POST", **headers).status == 413


@pytest.mark.parametrize(
    ("part", "num_parts", "num_read"), [(b"x" * 100, 50, 50), (b"x" * (1 << 20), 50, 17), (b"", 1, 1)]
)
def test_what_a_refused_client_still_sends_is_read_within_bounds(
    part: bytes, num_parts: int, num_read: int
) -> None:
    """A connection that is closed with unread data is reset by the system, and the answer may be lost."""
    numbers = iter(range(1, num_parts + 1))
    read, sent = [], []

    async def receive() -> Event:
        read.append(next(numbers))
        return {"type": "http.request", "body": part, "more_body": read[-1] < num_parts}

    async def send(event: Event) -> None:
        sent.append((event["type"], len(read)))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"host", b"localhost"), (b"content-length", b"50")],
    }
    asyncio.run(SecurityMiddleware(echo, Access(max_body_bytes=10))(scope, receive, send))
    assert sent[1] == ("http.response.body", 0)  # the answer does not wait for the body
    assert len(read) == num_read


def test_a_client_that_sends_nothing_more_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DISCARD_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(body_limit.discard(asyncio.Event().wait), 5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "named", "is_ours"),
    [
        ("127.0.0.1", "localhost:8000", True),
        ("127.0.0.2", "127.0.0.2:8000", True),
        ("127.0.0.1", "localhost.example", False),
        ("127.0.0.1", "10.0.0.1", False),
    ],
)
def test_a_loopback_server_answers_to_every_loopback_name(host: str, named: str, is_ours: bool) -> None:
    assert Access(host=host).answers_to(named) is is_ours


def test_a_body_without_a_length_is_cut_off_at_the_limit() -> None:
    app = SecurityMiddleware(echo, Access(max_body_bytes=10, body_limits={"/upload": 20}))
    chunks = [b"12345", b"67890", b"1"]
    assert ask(app, method="POST", body=chunks).status == 413
    assert ask(app, "/upload", method="POST", body=chunks).body == b"11"
    assert ask(app, method="POST", body=chunks[:2]).body == b"10"


def test_a_body_that_trickles_in_is_given_up() -> None:
    app = SecurityMiddleware(echo, Access(body_seconds=0.02))
    assert ask(app, method="POST", body=[b"1"] * 50, seconds_between=0.01).status == 408


def test_every_answer_carries_the_headers_and_allows_nothing_inline() -> None:
    for answer in (ask(LOCAL), ask(GUARDED), ask(LOCAL, host="attacker.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_token_file_is_private_long_and_one_word(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o644)
    with pytest.raises(RecipeError, match="other users can read"):
        read_token(file)
    file.chmod(0o600)
    assert read_token(file) == TOKEN
    wrong = {"short": "too short", "": "too short", "two words of a token": "one line", "ü" * 20: "one line"}
    for content, said in wrong.items():
        file.write_text(content)
        with pytest.raises(RecipeError, match=said):
            read_token(file)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_token(tmp_path / "none")
