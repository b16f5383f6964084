"""Conversion of fields to text; everything that cannot be converted is reported as a problem."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from loraloom.data.formats.cells import as_text
from loraloom.data.formats.invalid_characters import bad_character
from loraloom.data.formats.json_list import type_name
from loraloom.data.formats.row import Findings, Row
from loraloom.data.layouts.exchange import MISSING, Field
from loraloom.errors import Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message
from loraloom.text.visible import quoted

FILL = Message("Fill it in, or set `data.on_empty: drop`.")


class FieldReader:
    """A reader that converts the fields of one file's rows to text.

    Args:
        settings: `stringify`, `number_format` and `on_empty` are used.
        findings: receives the problems.
        names_columns: whether `data.columns` can name values inside a field; False for the turns of a
            conversation and the questions of an article, where the user must change the data instead.
    """

    def __init__(self, settings: DataSettings, findings: Findings, *, names_columns: bool) -> None:
        self._settings, self._findings = settings, findings
        self._names_columns = names_columns

    def __call__(self, row: Row, field: Field) -> str:
        """Return the field as text; "" if a problem was reported, or if it has no value and needs none."""
        value = field.value
        if isinstance(value, str):
            return self._checked(row, field.name, value)
        if value is MISSING or value is None:
            self._check_optional(row, field)
            return ""
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(
                row,
                Message(
                    "{name} is {value}, which is neither text nor a number",
                    name=quoted(field.name),
                    value=value,
                ),
            )
            return ""
        what = Message("{name} must be text, but is {kind}", name=quoted(field.name), kind=_kind(value))
        text = as_text(value, as_written=self._settings.number_format == "written")
        if text is None:
            self.refuse(row, what, self._way_inside(field))
        elif not (self._settings.stringify or field.number):
            fix = Message("Set `data.stringify: true` to accept numbers, booleans and dates as text.")
            self.refuse(row, what, fix)
        else:
            return text
        return ""

    def refuse(self, row: Row, what: str, fix: str = "") -> None:
        """Report a problem with a row; the whole row is then excluded."""
        self._findings.refuse(
            Problem(Message("row {number}: {what}", number=row.number, what=what), where=row.where, fix=fix),
            row.number,
        )

    def refuse_blank(self, row: Row, name: str, text: str) -> None:
        """Report a field with blank text."""
        self.refuse(
            row,
            (
                Message("{name} is blank", name=quoted(name))
                if text
                else Message("{name} is empty", name=quoted(name))
            ),
            FILL,
        )

    def _checked(self, row: Row, name: str, text: str) -> str:
        bad = bad_character(text)
        if bad is None:
            return text
        character, place = bad
        what = Message("{name} contains {character}", name=quoted(name), character=character)
        self.refuse(
            row, what, Message("It is the character at position {place} of the text; remove it.", place=place)
        )
        return ""

    def _check_optional(self, row: Row, field: Field) -> None:
        if field.optional:
            return
        if field.value is MISSING:
            self.refuse(row, Message("{name} is missing", name=quoted(field.name)))
        elif self._settings.on_empty == "error":
            self.refuse(row, Message("{name} is null", name=quoted(field.name)), FILL)

    def _way_inside(self, field: Field) -> str:
        """Return advice on how to use a text nested in a column's value; "" if there is no such advice."""
        if not self._names_columns:
            return ""
        if isinstance(field.value, list):
            return Message(
                "Write one row for each element, or choose one in `data.columns`: {value}.",
                value=quoted(f"{field.name}[0]"),
            )
        if isinstance(field.value, dict):
            return Message(
                "In `data.columns`, give the path to a value inside this object: {value}.",
                value=quoted(f"{field.name}.KEY"),
            )
        return Message("Write the column as text.")


def _kind(value: Any) -> str:
    if isinstance(value, (dict, list, bool)):
        return type_name(value)
    return (
        Message("a number")
        if isinstance(value, (int, float, Decimal))
        else Message("of type {name}", name=type(value).__name__)
    )
