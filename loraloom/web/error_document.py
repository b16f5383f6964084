"""The JSON format of the servers' error responses, the same as in OpenAI's API."""

from __future__ import annotations

from typing import Any

from loraloom.text.catalogue import rendered
from loraloom.text.visible import visible


def error_document(status: int, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    """Describe an error as a JSON object.

    Args:
        status: HTTP status.
        code: error code, for programs.
        message: message for people, rendered in the language of the process; control characters are escaped.
        param: the parameter concerned, if any.
    """
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": visible(rendered(message)), "type": kind, "param": param, "code": code}}
