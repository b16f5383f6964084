"""Rendering of messages for people, in the language of a catalogue.

    with use_catalogue(catalogue_of("zh")):
        print(rendered(error.as_message()))

Without a catalogue, messages are in English. `text/language.py` loads the catalogues, and chooses one for
the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from loraloom.text.message import Catalogue, Message

_catalogue: ContextVar[Catalogue | None] = ContextVar("catalogue", default=None)


def rendered(text: str, catalogue: Catalogue | None = None) -> str:
    """Render a message for people; other text is returned unchanged.

    Args:
        text: a message, or text.
        catalogue: catalogue to translate with; by default that of `use_catalogue`, or else English.
    """
    catalogue = catalogue or _catalogue.get()
    if catalogue is None or not isinstance(text, Message):
        return str(text)
    return text.rendered(catalogue)


def rendered_data(value: Any, catalogue: Catalogue | None = None) -> Any:
    """Render every message in a JSON value; keys and everything else stay as they are.

    Args:
        value: a message or plain value, or dicts, lists and tuples of these.
        catalogue: as in `rendered`.
    """
    if isinstance(value, Message):
        return rendered(value, catalogue)
    if isinstance(value, Mapping):
        return {key: rendered_data(inner, catalogue) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rendered_data(inner, catalogue) for inner in value]
    return value


def filled(template: str, /, **values: object) -> str:
    """Fill a template in the user's language, for a file or page that is written once.

    Args:
        template: a literal, so that `make messages` finds it.
        values: as in `Message`.
    """
    return rendered(Message(template, **values))


def language() -> str:
    """Return the tag of the language in use, such as `zh-CN`; `en` without a catalogue."""
    header: dict[str, str] = getattr(_catalogue.get(), "info", dict)()
    return str(header.get("language") or "en").replace("_", "-")


@contextmanager
def use_catalogue(catalogue: Catalogue) -> Iterator[None]:
    """Render messages through a catalogue, in this thread or task."""
    token = _catalogue.set(catalogue)
    try:
        yield
    finally:
        _catalogue.reset(token)
