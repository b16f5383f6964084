"""Conversion of pydantic's errors to problems that state the setting, its place and a fix."""

from __future__ import annotations

import re
from typing import Any

import annotated_types
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from loraloom.errors import Problem
from loraloom.recipe.setting_names import FIELDS, SECTION_EXAMPLES, Path, field_path
from loraloom.recipe.settings import DEFAULT_FROM
from loraloom.recipe.settings_tree import SettingsTree
from loraloom.recipe.typos import nearest
from loraloom.recipe.values import SettingError
from loraloom.text.message import Message, joined, said_by
from loraloom.text.visible import quoted, shown_value

_COMPARISONS = {
    "greater_than": (Message("must be greater than"), "gt"),
    "greater_than_equal": (Message("must be at least"), "ge"),
    "less_than": (Message("must be less than"), "lt"),
    "less_than_equal": (Message("must be at most"), "le"),
}
_KINDS = {
    "float": Message("must be a number"),
    "finite": Message("must be a finite number"),
    "int": Message("must be a whole number"),
    "bool": Message("must be true or false"),
    "string": Message("must be text"),
    "list": Message("must be a list"),
    "dict": Message("must be a mapping of settings"),
    "model": Message("must be a mapping of settings"),
}
_EXAMPLES = {
    ("model_name_or_path",): Message(
        "Add `model_name_or_path: starter`, or use a folder or a hub name instead of `starter`."
    ),
    ("data",): Message("Add `data: {{train: data.json}}`."),
    ("data", "train"): Message("Add `train: data.json` to `data`."),
}
_TEXTS = {
    ("model_name_or_path",): "starter",
    ("data", "train"): "data.json",
    ("data", "eval"): "eval.json",
    ("data", "test"): "test.json",
    ("data", "retain"): "retain.json",
    ("data", "columns"): "question",
    ("data", "source_prefix"): Message('"summarize: "'),
    ("lora", "init_adapter"): "adapters/main",
}


def problems_of(error: ValidationError, tree: SettingsTree, name: str) -> list[Problem]:
    """Convert a validation error to problems, one for each wrong setting.

    Args:
        error: error from validating `tree.as_mapping()`.
        tree: provides the place where each setting was given.
        name: name of the document, used as the place of settings that were not given.
    """
    return [_problem(detail, tree, name) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails, tree: SettingsTree, name: str) -> Problem:
    path, what = tuple(str(part) for part in detail["loc"]), _what(detail)
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        path += cause.path
    where = tree.where(path, name)
    # pydantic's name for a wrong key of a mapping; a user may have a key of that name.
    if path[-1:] == ("[key]",) and detail["type"] == "literal_error":
        return Problem(
            Message("unknown key {path}", path=quoted(".".join(path[:-1]))),
            where,
            allowed=_choices(detail["ctx"]["expected"]),
        )
    setting, key = field_path(path), quoted(".".join(path))
    if detail["type"] == "missing":
        return Problem(Message("{key} is missing", key=key), where, fix=_EXAMPLES.get(path, ""))
    if isinstance(cause, SettingError) and cause.path:
        return Problem(
            Message("{key} {what}", key=key, what=what), where
        )  # it is about two settings, and contains the fix
    return Problem(
        Message("{key} {what}", key=key, what=what),
        where,
        found=shown_value(detail["input"]),
        allowed=_allowed(detail, setting),
        fix=_fix_of_kind(detail, setting) or ("" if path[0] == "experiments" else _fix(detail, setting)),
    )


def _what(detail: ErrorDetails) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if "error" in context:
        error = context["error"]
        return said_by(error) if not isinstance(error, SettingError) else error.message
    if kind in _COMPARISONS:
        words, bound = _COMPARISONS[kind]
        return Message("{words} {number}", words=words, number=_number(context[bound]))
    if kind == "int_from_float":
        return Message("must be a whole number")
    if kind == "literal_error":
        return Message("must be one of {choices}", choices=_choices(context["expected"]))
    if kind == "string_pattern_mismatch":
        return Message("is not a device name")
    if kind == "extra_forbidden":
        return Message("is not a setting")
    return _KINDS.get(kind.partition("_")[0], detail["msg"][:1].lower() + detail["msg"][1:])


def _choices(expected: str) -> str:
    """Convert pydantic's `'no', 'steps' or 'epoch'` to a list of choices."""
    return expected.replace(" or ", ", ").replace("'", "`")


def _allowed(detail: ErrorDetails, setting: Path) -> str:
    info = FIELDS.get(setting)
    if info is None or "error" in detail.get("ctx", {}):
        return ""
    if detail["type"] == "string_pattern_mismatch":
        return Message("{help:clause}", help=info.description or "")
    bounds: list[str] = []
    for bound in info.metadata:
        for kind, words in (
            (annotated_types.Gt, Message("above")),
            (annotated_types.Ge, Message("at least")),
            (annotated_types.Lt, Message("below")),
            (annotated_types.Le, Message("at most")),
        ):
            if isinstance(bound, kind):
                bounds.append(
                    Message(
                        "{words} {number}", words=words, number=_number(getattr(bound, kind.__name__.lower()))
                    )
                )
    return joined(", ", bounds)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def _fix_of_kind(detail: ErrorDetails, setting: Path) -> str:
    """Explain how to write a string or a section, if the setting takes one; "" for other types."""
    kind = detail["type"].partition("_")[0]
    if kind == "string":
        info = FIELDS.get(setting)
        default = info.default if info is not None and isinstance(info.default, str) else ""
        example = _TEXTS.get(setting) or default or Message("a text")
        return Message(
            "Write one text, as in `{setting}: {example}`.", setting=".".join(setting), example=example
        )
    below = SECTION_EXAMPLES.get(".".join(setting))
    return (
        Message("Write its settings below it, as in `{below}`.", below=below)
        if kind in ("dict", "model") and below
        else ""
    )


def _fix(detail: ErrorDetails, setting: Path) -> str:
    if detail["type"] == "literal_error":
        match = nearest(str(detail["input"]), re.findall("'([^']*)'", detail["ctx"]["expected"]))
        if match:
            return Message("Did you mean `{match}`?", match=match)
    info = FIELDS.get(setting)
    if info is None or info.is_required() or info.default_factory is not None:
        return ""
    if isinstance(info.json_schema_extra, dict) and DEFAULT_FROM in info.json_schema_extra:
        return Message(
            "The default is the value of `{json_schema_extra}`.",
            json_schema_extra=info.json_schema_extra[DEFAULT_FROM],
        )
    if info.default is None:
        return Message("Remove the setting to disable it.")
    default = shown_value(info.default)
    return Message("The default is {default}.", default=default)
