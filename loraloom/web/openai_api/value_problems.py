"""Conversion of pydantic's validation errors for a request's body to translatable messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loraloom.text.message import Message, joined, said_by

SHOWN_PROBLEMS = 5

# Each with the key of the value in pydantic's context that the message contains, if any.
_LIMITS = {
    "greater_than": (Message("must be greater than {limit}", limit=0), "gt"),
    "greater_than_equal": (Message("must be at least {limit}", limit=0), "ge"),
    "less_than": (Message("must be less than {limit}", limit=0), "lt"),
    "less_than_equal": (Message("must be at most {limit}", limit=0), "le"),
    "string_too_short": (Message("must have at least {limit} characters", limit=0), "min_length"),
    "string_too_long": (Message("must have at most {limit} characters", limit=0), "max_length"),
    "too_short": (Message("must have at least {limit} items", limit=0), "min_length"),
    "too_long": (Message("must have at most {limit} items", limit=0), "max_length"),
    "literal_error": (Message("must be {limit}", limit=""), "expected"),
}
_KINDS = {
    "missing": Message("is missing"),
    "extra_forbidden": Message("is not a key of this request"),
    "string_type": Message("must be text"),
    "string_unicode": Message("must be text in Unicode, without lone surrogates"),
    "int_type": Message("must be a whole number"),
    "int_from_float": Message("must be a whole number"),
    "float_type": Message("must be a number"),
    "bool_type": Message("must be true or false"),
    "list_type": Message("must be a list"),
    "dict_type": Message("must be an object"),
    "model_type": Message("must be an object"),
    "model_attributes_type": Message("must be an object"),
    "none_required": Message("must be null"),
}


def described(problems: Sequence[Any], body: Any) -> tuple[Message, str | None]:
    """Describe the problems that pydantic found, naming each key once.

    Args:
        problems: validation errors, as pydantic's `errors()` returns them.
        body: body of the request.

    Returns:
        The message, and the first key that it names, if any.
    """
    by_place: dict[str, list[str]] = {}
    for problem in problems:
        said = by_place.setdefault(_place(problem, body), [])
        if (what := _what(problem)) not in said:
            said.append(what)
    parts: list[str] = [
        Message("{key}: {what}", key=place or Message("the body"), what=joined(" or ", said))
        for place, said in by_place.items()
    ]
    if len(parts) > SHOWN_PROBLEMS:
        parts[SHOWN_PROBLEMS:] = [Message("and {number} more", number=len(parts) - SHOWN_PROBLEMS)]
    return joined("; ", parts), next(iter(by_place)) or None


def _what(problem: Mapping[str, Any]) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if "error" in context:
        return said_by(context["error"])
    if kind in _LIMITS:
        message, key = _LIMITS[kind]
        return message.replaced(limit=context[key])
    return _KINDS.get(kind) or str(problem["msg"])


def _place(problem: Any, value: Any) -> str:
    """Return the key that a problem is about, such as `messages.0.role`.

    Args:
        problem: pydantic's validation error; its `loc` also contains names of types, which are not keys.
        value: the body of the request.
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
