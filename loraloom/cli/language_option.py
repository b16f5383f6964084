"""The language of the command line: `LORALOOM_LANG`, or else the locale's."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

from loraloom.errors import LoRALoomError
from loraloom.text.catalogue import use_catalogue
from loraloom.text.language import LOCALES, VARIABLE, catalogue_of, language_named, language_of_user
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted


def user_language() -> AbstractContextManager[None]:
    """Return a context manager that sets the language of messages to the user's."""
    language = language_of_user(os.environ)
    return nullcontext() if language == "en" else use_catalogue(catalogue_of(language))


def check_language() -> None:
    """Refuse an unknown language in `LORALOOM_LANG`; an unknown one in the locale is not an error.

    Raises:
        LoRALoomError: `LORALOOM_LANG` names an unknown language.
    """
    name = os.environ.get(VARIABLE, "")
    if name and language_named(name) is None:
        raise LoRALoomError(
            Message("there are no messages in this language"),
            where=VARIABLE,
            found=quoted(name),
            allowed=joined(", ", [f"`{language}`" for language in LOCALES]),
            fix=Message("Unset this variable to use the language of the locale."),
        )
