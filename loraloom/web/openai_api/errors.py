"""Errors of the API as JSON, in the form of OpenAI's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from loraloom.serving.job import JobError
from loraloom.text.message import Message
from loraloom.text.visible import visible

SHOWN_PROBLEMS = 5
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorDocument(BaseModel):
    """The answer to a request that failed."""

    error: ErrorBody


# Documented for every route; those of `Secured` come before any route.
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorDocument, "description": description}
    for status, description in {
        400: Message("the body is not JSON, or not UTF-8"),
        401: Message("the token is missing or wrong"),
        403: Message("sent by a page of another origin"),
        404: Message("there is no such model or adapter"),
        408: Message("the body did not arrive in time"),
        409: Message("the name is taken"),
        413: Message("the body is too large"),
        421: Message("the Host header does not name this server"),
        422: Message("a value is invalid, or the prompt is too long"),
        429: Message("too many requests are under way"),
        500: Message("the model's output is not finite"),
        503: Message("the model is being loaded, or the server is stopping"),
    }.items()
}


def error_response(
    status: int, code: str, message: str, param: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """Write an error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": visible(str(message)), "type": kind, "param": param, "code": code}
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return JSONResponse({"error": error}, status, headers)


def install_errors(app: FastAPI) -> None:
    """Let an application answer every error in one form."""

    @app.exception_handler(JobError)
    async def _job(request: Request, error: JobError) -> JSONResponse:
        return error_response(error.status, error.code, error.message, error.param, error.retry_after)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems: Sequence[Any] = error.errors()
        if any(problem["type"] == "json_invalid" for problem in problems):
            return error_response(400, "invalid_json", Message("the body is not valid JSON"))
        if not request.headers.get("content-type", "application/json").startswith("application/json"):
            return error_response(400, "invalid_json", "send JSON, with `content-type: application/json`")
        by_place: dict[str, list[str]] = {}
        for problem in problems:
            by_place.setdefault(_place(problem, error.body), []).append(
                problem["msg"].removeprefix("Value error, ")
            )
        described = [f"{place or 'the body'}: {' or '.join(said)}" for place, said in by_place.items()]
        if len(described) > SHOWN_PROBLEMS:
            described[SHOWN_PROBLEMS:] = [f"and {len(described) - SHOWN_PROBLEMS} more"]
        return error_response(422, "invalid_value", "; ".join(described), next(iter(by_place)) or None)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        answer = error_response(
            error.status_code, CODES.get(error.status_code, "error"), str(error.detail).lower()
        )
        answer.headers.update(error.headers or {})
        return answer


def _place(problem: Any, value: Any) -> str:
    """The key that a problem is about: `messages.0.role`.

    Args:
        problem: of pydantic; its path names not only keys, but also the types that a value may have.
        value: the body.
    """
    parts = []
    for part in problem["loc"][1:]:
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        is_key = part in keys
        if is_key:
            value = value[part]
        if is_key or (isinstance(value, dict) and problem["type"] == "missing"):
            parts.append(str(part))
    return ".".join(parts)[:200]
