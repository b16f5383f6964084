"""The API as its clients see it: OpenAI's own client, raw requests, clients that leave, and the end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from pydantic import ValidationError

from loraloom.web.openai_api.request_bodies import ChatRequest
from tests.web.conftest import Served
from tests.web.live import TOKEN, LiveServer

PROMPT = "我感到焦虑 3 how?"
LONG = {"max_tokens": 2000, "temperature": 1.5}  # sampling from a tiny model seldom ends by itself


def answered(server: LiveServer, model: str, prompt: str, **more: Any) -> str:
    return server.openai.completions.create(model=model, prompt=prompt, **more).choices[0].text


def test_openais_client_works(server: LiveServer) -> None:
    client = server.openai
    assert [model.id for model in client.models.list()] == ["base", "a", "b"]
    assert client.models.retrieve("a").owned_by == "loraloom"
    whole = client.completions.create(model="a", prompt=[PROMPT, "how?"], logprobs=2)
    assert whole.usage is not None
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert len(whole.choices[0].logprobs.token_logprobs) == whole.usage.completion_tokens / 2  # type: ignore[union-attr,arg-type]
    turns: list[Any] = [{"role": "user", "content": PROMPT}]
    chat = client.chat.completions.create(model="a", messages=turns, logprobs=True, top_logprobs=3)
    assert chat.choices[0].message.content == whole.choices[0].text
    assert len(chat.choices[0].logprobs.content[0].top_logprobs) == 3  # type: ignore[union-attr,index]
    options: Any = {"include_usage": True}
    parts = list(
        client.chat.completions.create(model="a", messages=turns, stream=True, stream_options=options)
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == whole.choices[0].text
    assert parts[-1].usage == chat.usage
    turns += [chat.choices[0].message, {"role": "user", "content": "why?"}]
    assert client.chat.completions.create(model="a", messages=turns).choices
    turns[1] = chat.choices[0].message.model_dump()
    assert client.chat.completions.create(model="a", messages=turns).choices
    assert len(parts) > 4
    first = whole.choices[0].text[0]
    stopped = client.completions.create(model="a", prompt=PROMPT, stop=[whole.choices[0].text[1]])
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == (first, "stop")


def test_sampled_answers_repeat_with_their_seed(server: LiveServer) -> None:
    def sample(seed: int) -> list[str]:
        asked = {"n": 3, "temperature": 1.2, "top_p": 0.9, "seed": seed}
        made = server.openai.completions.create(model="a", prompt=PROMPT, **asked)  # type: ignore[call-overload]
        return [choice.text for choice in made.choices]

    assert sample(1) == sample(1) != sample(2)
    assert len(set(sample(1))) > 1


def test_compare_answers_with_all_models(server: LiveServer) -> None:
    answers = server.post("/v1/compare", prompt=PROMPT).json()["answers"]
    assert {name: own["text"] for name, own in answers.items()} == {
        name: answered(server, name, PROMPT) for name in ("base", "a", "b")
    }
    one = server.post("/v1/compare", prompt=PROMPT, models=["b"]).json()["answers"]
    assert one == {"b": answers["b"]}


def canary(server: LiveServer, number: int) -> tuple[str, list[float]]:
    """A short answer with its log-probabilities, which tell it from every other answer."""
    words = " ".join(("how", "我们")[number >> bit & 1] for bit in range(8))
    asked = {"model": ("base", "a", "b")[number % 3], "prompt": words}
    while (answer := server.post("/v1/completions", **asked, max_tokens=2, logprobs=0)).status_code == 429:
        time.sleep(0.1)
    (choice,) = answer.json()["choices"]
    return choice["text"], choice["logprobs"]["token_logprobs"]


def test_200_clients_at_once_get_their_own_answers(server: LiveServer) -> None:
    alone = [canary(server, number) for number in range(200)]
    with ThreadPoolExecutor(200) as clients:
        together = list(clients.map(lambda number: canary(server, number), range(200)))
    assert len({(text, *(round(each, 4) for each in logprobs)) for text, logprobs in alone}) > 190
    for (text, logprobs), (expected, values_alone) in zip(together, alone, strict=True):
        assert text == expected
        assert logprobs == pytest.approx(values_alone, abs=1e-5)


def test_beams_are_searched_for_one_request_beside_others(server: LiveServer) -> None:
    asked = {"model": "a", "prompt": PROMPT, "extra_body": {"num_beams": 3}}
    with ThreadPoolExecutor(4) as clients:
        others = [clients.submit(answered, server, name, PROMPT) for name in ("base", "b")]
        whole = server.openai.completions.create(**asked)  # type: ignore[call-overload]
        parts = list(server.openai.completions.create(**asked, stream=True))  # type: ignore[call-overload]
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert [other.result() for other in others] == [answered(server, name, PROMPT) for name in ("base", "b")]
    refused = server.post("/v1/completions", model="a", prompt=PROMPT, num_beams=2, n=2)
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "num_beams")


@pytest.mark.parametrize(
    ("key", "empty", "other"),
    [
        ("frequency_penalty", 0.0, 0.5),
        ("presence_penalty", 0, False),
        ("logit_bias", {}, {"7": 1.0}),
        ("tools", [], [{"type": "function"}]),
        ("tool_choice", "none", "auto"),
        ("response_format", {"type": "text"}, {"type": "json_object"}),
    ],
)
def test_a_key_without_an_effect_may_have_the_value_that_means_nothing(
    key: str, empty: Any, other: Any
) -> None:
    asked = {"model": "a", "messages": [{"role": "user", "content": "how?"}]}
    for value in (None, empty):
        ChatRequest.model_validate({**asked, key: value})
    with pytest.raises(ValidationError, match=key):
        ChatRequest.model_validate({**asked, key: other})


@pytest.mark.parametrize(
    ("body", "param", "places"),
    [
        ({"messages": []}, "model", ["model", "messages"]),
        (
            {"model": "a", "messages": [{"role": "user", "content": ""}]},
            "messages.0.content",
            ["messages.0.content"],
        ),
        (
            {"model": "a", "messages": [{"role": "user", "content": [{"text": "x"}]}]},
            "messages.0.content",
            ["messages.0.content", "messages.0.content.0.type"],
        ),
        ({"model": "a", "messages": ["x"], "body": 1}, "messages.0", ["messages.0", "body"]),
        ([], None, ["the body"]),
    ],
)
def test_an_error_names_each_key_once_and_not_the_types_it_may_have(
    server: LiveServer, body: Any, param: str | None, places: list[str]
) -> None:
    error = server.http.post("/v1/chat/completions", json=body).json()["error"]
    assert error["param"] == param
    assert [part.split(": ")[0] for part in error["message"].split("; ")] == places


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"model": "a", "prompt": "\xff"}', {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"model": "a", "prompt": "x"}', {"content-type": "text/plain"}, 400),
        (b'"' + b"x" * (2 << 20) + b'"', {}, 413),
        (json.dumps({"model": "a", "prompt": "x" * 5000}).encode(), {}, 422),
        (b'{"model": "a", "prompt": "x", "frequency_penalty": 1}', {}, 422),
        (b'{"model": "a", "prompt": "x", "unknown": 1}', {}, 422),
        (b'{"model": "a", "prompt": "x", "temperature": NaN}', {}, 422),
        (b'{"model": "a", "prompt": "\\ud800"}', {}, 422),
        (b'{"model": "../a", "prompt": "x"}', {}, 404),
        (b'{"model": "a", "prompt": "x"}', {"authorization": "Bearer wrong"}, 401),
        (b'{"model": "a", "prompt": "x"}', {"host": "attacker.example"}, 421),
        (b'{"model": "a", "prompt": "x"}', {"origin": "http://attacker.example"}, 403),
    ],
)
def test_bad_requests_get_an_error_in_openais_form(
    server: LiveServer, content: bytes, headers: dict[str, str], status: int
) -> None:
    sent = {"content-type": "application/json", **headers}
    answer = server.http.post("/v1/completions", content=content, headers=sent)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_a_body_without_a_length_is_cut_off(server: LiveServer) -> None:
    address = urlsplit(server.address)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {TOKEN}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"80000\r\n" + b"x" * 0x80000 + b"\r\n"
        connection.sendall(head.encode() + chunk * 2 + b"10\r\n" + b"x" * 16 + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("name", ["..%2f..%2fetc", "%2e%2e", "%00", "%2fetc%2fpasswd", "nobody", "a%20"])
def test_names_are_looked_up_and_never_joined(server: LiveServer, name: str) -> None:
    assert server.http.delete(f"/v1/adapters/{name}").status_code == 404
    for folder in ("../allowed/more/c", "/etc", "more/../more/c", "more/c\x00", "."):
        answer = server.post("/v1/adapters", name="c", folder=folder)
        assert (answer.status_code, answer.json()["error"]["param"]) == (404, "folder")


def test_an_error_about_a_model_names_it(server: LiveServer) -> None:
    answer = server.http.get("/v1/models/nope")
    assert (answer.status_code, "`nope`" in answer.json()["error"]["message"]) == (404, True)
    answer = server.http.delete("/v1/adapters/base")
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "name")


def test_beyond_the_queue_requests_are_refused_and_a_client_that_left_is_forgotten(
    server: LiveServer,
) -> None:
    stream = server.openai.completions.create(model="a", prompt=["x"] * 64, stream=True, extra_body=LONG)
    next(iter(stream))
    # As many again do not fit unless all have ended; one more might, since an answer may end by itself.
    answer = server.post("/v1/completions", model="a", prompt=["x"] * 64)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.head("/health").status_code == 200
    stream.close()
    server.wait_for("loraloom_requests_under_way", 0, seconds=5)
    server.wait_for("loraloom_batch_rows", 0, seconds=5)
    tokens = server.figure("loraloom_generated_tokens_total")
    time.sleep(0.3)
    assert server.figure("loraloom_generated_tokens_total") == tokens


def test_adapters_come_and_go_and_survive_the_death_of_the_model_process(server: LiveServer) -> None:
    assert server.http.get("/v1/adapters").json()["available"] == ["more/c"]
    server.is_changed = True
    added = server.post("/v1/adapters", name="c", folder="more/c")
    assert added.status_code == 201, added.text
    assert server.post("/v1/adapters", name="c", folder="more/c").status_code == 409
    assert server.http.delete("/v1/adapters/a").status_code == 200
    expected = answered(server, "b", PROMPT)
    restarts = server.figure("loraloom_model_restarts_total")
    # Eight answers, because one of them may end by itself before the process is dead.
    asked = {**LONG, "n": 8}
    stream = server.openai.completions.create(model="b", prompt=PROMPT, stream=True, extra_body=asked)
    next(iter(stream))
    server.kill_model()
    with pytest.raises(openai.APIError, match="the model process ended"):
        list(stream)
    assert answered(server, "c", PROMPT) == expected  # waits until it is started again
    assert server.figure("loraloom_model_restarts_total") == restarts + 1
    assert [model.id for model in server.openai.models.list()] == ["base", "b", "c"]


def test_sigterm_lets_answers_finish_and_refuses_new_ones(server_to_end: LiveServer) -> None:
    server, said = server_to_end, list[str]()
    asked = {"max_tokens": 60, "temperature": 1.5, "seed": 5}
    stream = server.openai.completions.create(model="b", prompt=["x"] * 8, stream=True, **asked)  # type: ignore[call-overload]
    next(iter(stream))
    reasons: list[str | None] = []
    reader = threading.Thread(target=lambda: reasons.extend(p.choices[0].finish_reason for p in stream))
    reader.start()
    server.terminate()
    while server.http.get("/health").status_code == 200:
        time.sleep(0.01)
    answer = server.post("/v1/completions", model="b", prompt="x")
    said.append(answer.json()["error"]["code"])
    reader.join(30)
    assert (answer.status_code, said) == (503, ["stopping"])
    assert sum(reason is not None for reason in reasons) == 8
    assert server.process.wait(20) == 0


def test_while_the_model_is_loaded_the_server_says_so_and_can_be_ended(served: Served) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    serve = [sys.executable, "-c", "from loraloom.cli import main; main()", "serve", str(served.run)]
    with subprocess.Popen([*serve, "--port", port], stderr=subprocess.PIPE, text=True) as process:
        health: Any = None
        while health is None:
            assert process.poll() is None
            try:
                health = httpx2.get(f"http://127.0.0.1:{port}/health")
            except httpx2.ConnectError:
                time.sleep(0.02)
        process.terminate()
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
