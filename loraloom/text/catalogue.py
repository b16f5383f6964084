"""The one place where messages are rendered for people, in the language of a catalogue.

    with use_catalogue(gettext.translation("loraloom", folder, languages=["zh_CN"])):
        print(rendered(error.as_message()))

Without a catalogue, messages are in English. `loraloom/locale/loraloom.pot` lists all templates;
`make messages` brings it up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from loraloom.text.message import Catalogue, Message

_catalogue: ContextVar[Catalogue | None] = ContextVar("catalogue", default=None)


def rendered(text: str, catalogue: Catalogue | None = None) -> str:
    """Render a message for people; text that is no message is returned as it is.

    Args:
        text: a message, or text.
        catalogue: its language; by default that of `use_catalogue`, or else English.
    """
    catalogue = catalogue or _catalogue.get()
    if catalogue is None or not isinstance(text, Message):
        return str(text)
    return text.rendered(catalogue)


def language() -> str:
    """Return the tag of the language in use, as in the header of its catalogue; by default `en`."""
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
