"""Texts of templates in the language of whoever reads them: `{{ _("{count:,} rows", count=3) }}`."""

from __future__ import annotations

from loraloom.text.catalogue import rendered
from loraloom.text.message import Message


def translate(template: str, **values: object) -> str:
    """Render a text of a template: `_("step {step:,}", step=3)`."""
    return rendered(Message(template, **values))


def translate_counted(singular: str, plural: str, count: int, **values: object) -> str:
    """Render a text that depends on a number: `ngettext("{count} row", "{count} rows", 3)`."""
    return rendered(Message.counting(singular, plural, count=count, **values))
