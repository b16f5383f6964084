"""Questions and blind votes, and the rows of a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from loraloom.evaluate.win_rates import wilson_interval, win_rates
from loraloom.report.content import read_content
from loraloom.report.page import render_page
from loraloom.report.votes_view import read_votes
from loraloom.run.documents.votes import Vote
from loraloom.run.folder import Run
from loraloom.web.pages import compare_pages
from loraloom.web.pages.application import make_access, make_pages
from loraloom.web.pages.questions import Question
from loraloom.web.pages.votes import add_vote
from loraloom.web.security import SecurityMiddleware
from tests.web.pages.conftest import copy_run

ANSWERS = {"base": "<b>yes</b>", "wide": "no", "narrow": ""}


@pytest.fixture
def question() -> Question:
    return Question(
        "q1",
        "finished",
        "why?",
        is_blind=True,
        order=("wide", "base", "narrow"),
        answers=ANSWERS,
        status="done",
        version=1,
    )


@pytest.fixture
def asked(runs: Path, question: Question) -> TestClient:
    copy_run("finished", runs)
    access = make_access("127.0.0.1", None)
    app = make_pages(runs, access)
    app.state.questions._known["q1"] = question
    return TestClient(SecurityMiddleware(app, access), base_url="http://127.0.0.1:8700")


def test_in_a_blind_vote_no_name_reaches_the_browser_before_the_vote(asked: TestClient) -> None:
    stream = asked.get("/runs/finished/answers/q1").text
    assert "Answer A" in stream
    assert "&lt;b&gt;yes&lt;/b&gt;" in stream
    for name in ("base", "wide", "narrow"):
        assert name not in stream.replace("database", "")


def test_a_vote_is_kept_in_the_run_and_reported(asked: TestClient, runs: Path) -> None:
    token = asked.get("/new").text.partition('name="form_token" value="')[2].partition('"')[0]
    form = {"form_token": token, "chosen": "0"}
    page = asked.post("/runs/finished/answers/q1/vote", data=form).text
    assert "your choice" in page
    assert "1 of 1" in page
    asked.post("/runs/finished/answers/q1/vote", data=form | {"chosen": "1"})  # only the first counts
    votes = read_votes(Run(runs / "finished"))
    assert [(vote.chosen, list(vote.answers)) for vote in votes.votes] == [
        ("wide", ["wide", "base", "narrow"])
    ]
    assert "Human votes" in render_page(read_content(runs / "finished"))
    assert asked.post("/runs/finished/answers/q1/vote", data=form | {"chosen": "9"}).status_code == 422


def test_a_vote_that_could_not_be_kept_can_be_repeated(
    asked: TestClient, runs: Path, question: Question
) -> None:
    token = asked.get("/new").text.partition('name="form_token" value="')[2].partition('"')[0]
    form = {"form_token": token, "chosen": "0"}
    (runs / "finished" / "votes.json").write_text("{", encoding="utf-8")
    assert asked.post("/runs/finished/answers/q1/vote", data=form).status_code == 409
    assert question.is_hidden
    (runs / "finished" / "votes.json").unlink()
    assert "1 of 1" in asked.post("/runs/finished/answers/q1/vote", data=form).text


def test_answers_that_end_while_those_before_them_are_rendered_are_sent(
    asked: TestClient, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = compare_pages._columns
    question.status = "answering"

    def end_meanwhile(request: Any, of: Question) -> str:
        rendered = render(request, of)
        of.status, of.version = "done", 2
        return rendered

    monkeypatch.setattr(compare_pages, "_columns", end_meanwhile)
    before, _, last = asked.get("/runs/finished/answers/q1").text.partition("Answering …")
    assert "This is the best" not in before
    assert "This is the best" in last


def test_a_question_of_another_run_is_not_found(asked: TestClient, runs: Path) -> None:
    copy_run("talks", runs)
    assert asked.get("/runs/talks/answers/q1").status_code == 404


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "  "},
        {"prompt": "x" * 100_001},
        {"prompt": "a", "max_new_tokens": "0"},
        {"prompt": "a", "max_new_tokens": "many"},
        {"prompt": "a", "do_sample": "true", "temperature": "nan"},
    ],
)
def test_an_unusable_question_is_refused_before_a_model_is_loaded(
    client: TestClient, runs: Path, form_token: Callable[[], str], given: dict[str, Any]
) -> None:
    copy_run("finished", runs)
    answer = client.post("/runs/finished/ask", data={"form_token": form_token()} | given)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text


def test_ties_count_as_shown_and_not_chosen(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for chosen in ("wide", "wide", "base", None):
        add_vote(run, Vote(time="", prompt="", answers={"base": "a", "wide": "b"}, chosen=chosen))
    votes = read_votes(run)
    assert [(each.model, each.num_wins, each.num_shown) for each in votes.figures] == [
        ("wide", 2, 4),
        ("base", 1, 4),
    ]
    assert votes.num_ties == 1
    assert votes.num_models == 2
    add_vote(run, Vote(time="", prompt="", answers={"base": "a", "new": "c"}, chosen="new"))
    assert read_votes(run).num_models is None  # there is no one rate of chance


def test_wilsons_interval_contains_the_rate_and_narrows() -> None:
    for wins, trials in [(0, 1), (1, 1), (3, 7), (50, 100)]:
        low, high = wilson_interval(wins, trials)
        assert 0 <= low <= wins / trials <= high <= 1
    assert win_rates([]) == []
    few, many = wilson_interval(5, 10), wilson_interval(500, 1000)
    assert many[1] - many[0] < few[1] - few[0]


def test_the_rows_of_a_part_show_tokens_and_what_was_cut(client: TestClient, runs: Path) -> None:
    copy_run("finished", runs)
    page = client.get("/runs/finished/data?part=train&cut=true").text
    assert "cut: the end" in page
    assert "24 tokens, 15 cut" in page
    assert "8 tokens counted in the loss" in page
    assert "16 rows" in client.get("/runs/finished/data").text
    assert "No row matches" in client.get("/runs/finished/data?find=zzz").text
    assert client.get("/runs/finished/data?part=nope").status_code == 404
    assert client.get("/runs/finished/data?number=999").status_code == 200
