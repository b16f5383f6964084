"""API errors as JSON, in the format of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from loraloom.serving.job import JobError
from loraloom.text.message import Message
from loraloom.web.error_document import error_document
from loraloom.web.openai_api.value_problems import described

HTTP_ERRORS = {
    400: ("bad_request", Message("the request is invalid")),
    404: ("not_found", Message("there is no such route")),
    405: ("method_not_allowed", Message("this route does not support this method")),
}


def error_response(
    status: int, code: str, message: str, param: str | None = None, retry_after: int | None = None
) -> JSONResponse:
    """Create the response for an error."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return JSONResponse(error_document(status, code, message, param), status, headers)


def unhealthy(status: str, retry_after: int) -> JSONResponse:
    """Create the response that says why requests are not answered at present."""
    return JSONResponse({"status": status}, 503, {"retry-after": str(retry_after)})


def install_errors(app: FastAPI) -> None:
    """Install handlers that make an application answer every error in the format of OpenAI's API."""

    @app.exception_handler(JobError)
    async def _job(request: Request, error: JobError) -> JSONResponse:
        return error_response(error.status, error.code, error.message, error.param, error.retry_after)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        problems: Sequence[Any] = error.errors()
        if any(problem["type"] == "json_invalid" for problem in problems):
            return error_response(400, "invalid_json", Message("the body is not valid JSON"))
        if not request.headers.get("content-type", "application/json").startswith("application/json"):
            said = Message("send JSON, with `content-type: application/json`")
            return error_response(400, "invalid_json", said)
        message, param = described(problems, error.body)
        return error_response(422, "invalid_value", message, param)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code, message = HTTP_ERRORS.get(error.status_code, ("error", str(error.detail).lower()))
        answer = error_response(error.status_code, code, message)
        answer.headers.update(error.headers or {})
        if error.status_code == 405:  # Starlette names only the methods of the first route of this path
            answer.headers["allow"] = ", ".join(sorted(_methods(request)))
        return answer


def _methods(request: Request) -> set[str]:
    return {
        method
        for route in request.app.routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods
    }
