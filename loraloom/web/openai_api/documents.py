"""Schemas of the API's responses, for its OpenAPI document; `answer_documents.py` creates the responses."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from loraloom.text.message import Message

FinishReason = Literal["stop", "length"]


class Document(BaseModel):
    """A response that has exactly the keys of its schema."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Document):
    """What went wrong."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class ErrorDocument(Document):
    """The response to a request that failed."""

    error: ErrorBody


class Health(Document):
    """Whether the server answers requests and, if not, why."""

    status: Literal["ok", "loading", "stopping", "stalled"]


class ModelDocument(Document):
    """The base, or an adapter."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Document):
    """The base and the adapters."""

    object: Literal["list"]
    data: list[ModelDocument]


class AdapterList(Document):
    """The adapters that are attached, and the folders of those that can be attached."""

    object: Literal["list"]
    data: list[str]
    available: list[str]


class RemovedModel(Document):
    """An adapter that was removed."""

    id: str
    object: Literal["model"]
    deleted: Literal[True]


class Usage(Document):
    """Numbers of tokens in the prompts and in the answers."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class CompletionLogprobs(Document):
    """Log-probabilities of the tokens of an answer."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Document):
    """One answer."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason


class Completion(Document):
    """The response to POST /v1/completions."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class TokenLogprob(Document):
    """A candidate token at one position of an answer, with its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TokenLogprob):
    """A token of an answer, with its log-probability and the most probable candidates."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Document):
    """Log-probabilities of the tokens of an answer."""

    content: list[ChosenLogprob]
    refusal: None


class AssistantMessage(Document):
    """The answer to a conversation."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Document):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Document):
    """The response to POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ComparedAnswer(Document):
    """The answer of one model."""

    text: str
    finish_reason: FinishReason
    completion_tokens: int


class Comparison(Document):
    """The response to POST /v1/compare."""

    object: Literal["comparison"]
    created: int
    answers: dict[str, ComparedAnswer]
    usage: Usage


RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
# Documented for every route; those of `SecurityMiddleware` come before any route.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument, "description": description, "headers": headers}
    for status, description, headers in (
        (400, Message("the body is not JSON, or not UTF-8"), {}),
        (401, Message("the token is missing or wrong"), {}),
        (403, Message("the request was sent by a page from another origin"), {}),
        (404, Message("there is no such model or adapter"), {}),
        (408, Message("the body did not arrive in time"), {}),
        (409, Message("the name is taken"), {}),
        (413, Message("the body is too large"), {}),
        (421, Message("the Host header does not name this server"), {}),
        (422, Message("a value is invalid, or the prompt is too long"), {}),
        (429, Message("too many requests are under way"), RETRY_AFTER),
        (500, Message("the model failed on this request, or its output is not finite"), {}),
        (503, Message("the model is not ready or cannot answer, or the server is stopping"), RETRY_AFTER),
    )
}
HEALTH: dict[int | str, dict[str, Any]] = {
    200: {"model": Health, "description": Message("requests are answered")},
    503: {
        "model": Health,
        "description": Message("the model is being loaded, or the server is stopping or does not respond"),
    },
}
CONVERSATION = {"messages": [{"role": "user", "content": "Good morning!"}]}
OF_MODELS = {
    "model": {"operationId": "show_model", "parameters": {"model": "$response.body#/data/0/id"}},
    "adapter": {"operationId": "show_model", "parameters": {"model": "$response.body#/data/1/id"}},
    **{
        f"{operation}_{position}": {
            "operationId": operation,
            "requestBody": {"model": f"$response.body#/data/{position}/id", **asked},
        }
        for operation, asked in (("complete", {}), ("chat", CONVERSATION))
        for position in (0, 1)
    },
}
OF_ADAPTERS = {
    "attach": {"operationId": "add_adapter", "requestBody": {"folder": "$response.body#/available/0"}},
}
OF_NEW_ADAPTER = {
    "show": {"operationId": "show_model", "parameters": {"model": "$response.body#/id"}},
    "complete": {"operationId": "complete", "requestBody": {"model": "$response.body#/id"}},
    "chat": {"operationId": "chat", "requestBody": {"model": "$response.body#/id", **CONVERSATION}},
    "remove": {"operationId": "remove_adapter", "parameters": {"name": "$response.body#/id"}},
}
FIGURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": Message("the server's figures, in Prometheus' text format"),
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}


def linked(status: int, links: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI links: requests that can follow a response of this status, with values taken from it."""
    return {status: {"links": links}}


def answered(model: type[Document], *, is_streamed: bool = True) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of successful responses: one document, or also a stream of chunks."""
    event = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
    events = {"content": {"text/event-stream": {"itemSchema": event}}} if is_streamed else {}
    return {200: {"model": model, "description": Message("the answers"), **events}}
