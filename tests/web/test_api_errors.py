"""What the API says while nothing is loaded, and what is wrong with a request, in both languages."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from loraloom.serving.configuration import ModelConfiguration
from loraloom.serving.job import JobError
from loraloom.serving.model_process import ModelProcess
from loraloom.serving.open_request import Answering
from loraloom.text.catalogue import use_catalogue
from loraloom.text.language import catalogue_of
from loraloom.text.message import Message
from loraloom.web.openai_api import answer_documents
from loraloom.web.openai_api.answer_documents import CompletionForm, stream
from loraloom.web.openai_api.routes import Api
from tests.web.requests import Answer, ask

ASKED = {"model": "a", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
def api() -> Api:
    """An API whose model process was never started."""
    return Api(ModelProcess(ModelConfiguration(run=None), max_waiting=4))


def post(api: Api, route: str, **body: Any) -> Answer:
    content = json.dumps(body).encode()
    return ask(api.app, f"/v1/{route}", "POST", [content], content_type="application/json")


def error(answer: Answer) -> Any:
    return json.loads(answer.body)["error"]


def test_while_the_model_is_loaded_every_route_says_so_and_when_to_ask_again(api: Api) -> None:
    health = ask(api.app, "/health")
    assert (health.status, json.loads(health.body)) == (503, {"status": "loading"})
    answers = [
        health,
        ask(api.app, "/v1/models"),
        ask(api.app, "/v1/models/base"),
        ask(api.app, "/v1/adapters"),
        ask(api.app, "/v1/adapters/a", "DELETE"),
        post(api, "completions", model="a", prompt="x"),
        post(api, "chat/completions", model="a", messages=ASKED["messages"]),
        post(api, "compare", prompt="x"),
        post(api, "adapters", name="a", folder="b"),
    ]
    assert [(answer.status, answer.headers["retry-after"]) for answer in answers] == [(503, "2")] * 9
    assert {error(answer)["code"] for answer in answers[1:]} == {"model_not_ready"}
    assert ask(api.app, "/metrics").status == 200
    assert post(api, "adapters").headers["content-type"] == "application/json"


def test_beyond_the_queue_a_request_is_refused_unread() -> None:
    full = Api(ModelProcess(ModelConfiguration(run=None), max_waiting=0))
    answer = ask(full.counted, "/v1/completions", "POST", [b"{"])
    assert (answer.status, error(answer)["code"], answer.headers["retry-after"]) == (429, "queue_full", "2")
    assert '{route="/v1/completions",status="429"} 1' in full.metrics.text()
    assert ask(full.counted, "/health").status == 503


def test_more_prompts_than_the_queue_has_places_are_never_told_to_try_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelProcess, "was_ready", True)
    answer = post(api, "completions", model="a", prompt=["x"] * 5)
    assert (answer.status, "retry-after" in answer.headers) == (422, False)
    assert (
        error(answer)["message"]
        == "a request can have at most 4 prompts or models, because the queue has 4 places"
    )


def test_a_method_that_a_route_does_not_have_is_answered_with_those_that_it_has(api: Api) -> None:
    answer = ask(api.app, "/v1/adapters", "PUT")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, POST")


TEXT, AT_LEAST, OBJECT = "必须是文本", "至少", "必须是对象"


@pytest.mark.parametrize(
    ("body", "english", "chinese"),
    [
        ({"model": 1, "n": 1.5}, "model: must be text; n: must be a whole number; prompt: is missing", TEXT),
        ({"model": "", "n": 99}, "must have at least 1 characters; n: must be at most 16", AT_LEAST),
        ({"temperature": "hot", "seed": -1}, "must be a number; seed: must be at least 0", AT_LEAST),
        ({"prompt": 1}, "prompt: must be text or must be a list", "必须是列表"),
        ({"prompt": []}, "prompt: must be text or must have at least 1 items", AT_LEAST),
        ({"stream": "yes", "echo": True}, "must be true or false; echo: must be false", "true 或 false"),
        ({"echo": 0, "best_of": True}, "echo: must be true or false; best_of: must be a whole", "best_of"),
        ({"extra": 1, "metadata": []}, "must be an object; extra: is not a key of this request", OBJECT),
        ({"stream_options": 1}, "stream_options: must be an object", OBJECT),
        ({"prompt": "\ud800"}, "must be text in Unicode, without lone surrogates", "Unicode 文本"),
        ({f"k{number}": 1 for number in range(9)}, "and 4 more", "另有 4"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_both_languages(
    api: Api, body: dict[str, Any], english: str, chinese: str
) -> None:
    whole = body if "prompt" in body or "model" in body else {**body, "model": "a", "prompt": "x"}
    if "prompt" in body:
        whole = {"model": "a", **body}
    said = error(post(api, "completions", **whole))["message"]
    assert english in said
    with use_catalogue(catalogue_of("zh")):
        said = error(post(api, "completions", **whole))["message"]
    assert chinese in said
    assert "must" not in said


def test_two_limits_that_differ_and_an_empty_question_are_refused_in_both_languages(api: Api) -> None:
    with use_catalogue(catalogue_of("zh")):
        said = [
            error(post(api, "chat/completions", **{**ASKED, "prompt": None, **more}))["message"]
            for more in (
                {"max_tokens": 1, "max_completion_tokens": 2},
                {"messages": [{"role": "user", "content": ""}]},
                {"top_logprobs": 1},
            )
        ]
    assert all(not each.isascii() for each in said)


def test_an_answer_without_text_can_be_sent_back(api: Api) -> None:
    turns = [*ASKED["messages"], {"role": "assistant", "content": ""}, *ASKED["messages"]]  # type: ignore[misc]
    assert post(api, "chat/completions", model="a", messages=turns).status == 503  # not 422
    refused = [{"role": "system", "content": ""}, *turns]
    assert error(post(api, "chat/completions", model="a", messages=refused))["param"] == "messages.0.content"


def test_an_error_within_a_stream_has_the_form_of_all_others() -> None:
    async def streamed() -> list[bytes]:
        answering = Answering(1, lambda answering, is_answered: None)
        failed = JobError(500, "not_finite", Message("the model's output is not finite for this prompt"))
        answering.events.put_nowait({"id": 1, "error": failed.to_json()})
        return [part async for part in stream(CompletionForm("x", "a"), [answering], 1, has_usage=False)]

    with use_catalogue(catalogue_of("zh")):
        (part,) = asyncio.run(streamed())
    document = json.loads(part.decode().removeprefix("data: "))
    assert document["error"]["type"] == "server_error"
    assert document["error"]["code"] == "not_finite"
    assert not document["error"]["message"].isascii()


@pytest.mark.parametrize("is_ended", [True, False])
def test_a_stream_that_is_read_slowly_ends_with_its_answer_or_an_error(
    monkeypatch: pytest.MonkeyPatch, is_ended: bool
) -> None:
    monkeypatch.setattr(answer_documents, "REQUEST_SECONDS", 0.05)
    num_events = 100  # more than are read ahead of the client

    async def streamed() -> list[bytes]:
        answering, parts = Answering(1, lambda answering, is_answered: None), list[bytes]()
        for number in range(1, num_events + 1):
            reason = "stop" if is_ended and number == num_events else ""
            counts = {"num_tokens": number, "num_source_tokens": 1, "logprob": None}
            answering.events.put_nowait({"id": 1, "answer": 0, "text": "x", "reason": reason, **counts})
        async with asyncio.timeout(20):
            async for part in stream(CompletionForm("x", "a"), [answering], 1, has_usage=False):
                if not parts:
                    await asyncio.sleep(0.1)
                parts.append(part)
        return parts

    *parts, last = asyncio.run(streamed())
    assert len(parts) == num_events
    assert last == b"data: [DONE]\n\n" if is_ended else b"too_slow" in last
