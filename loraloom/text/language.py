"""The languages of messages: choice of the user's language, and its catalogue.

    with use_catalogue(catalogue_of("zh")):
        print(rendered(error.as_message()))

A catalogue is `locale/zh_CN/LC_MESSAGES/loraloom.mo`, which `make messages` compiles from the `.po` file
next to it. It is kept in the repository, so that every kind of installation has it, and the standard library
reads it: there is no build step, and no parser of our own.
"""

from __future__ import annotations

import functools
import gettext
import re
from collections.abc import Mapping
from pathlib import Path

from loraloom.text.message import Catalogue

VARIABLE = "LORALOOM_LANG"
LOCALES = {"en": "", "zh": "zh_CN"}
"""The locale of each language's catalogue; English has none."""

_LOCALE_FOLDER = Path(__file__).resolve().parents[1] / "locale"
_OF_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first non-empty variable counts, as in POSIX


def language_named(name: str) -> str | None:
    """Return the key in `LOCALES` for the name of a language or locale; None if there is no such key.

    >>> language_named("zh"), language_named("zh_CN.UTF-8"), language_named("en-GB"), language_named("fr")
    ('zh', 'zh', 'en', None)
    """
    language = re.split(r"[-_.@]", name.strip().lower(), maxsplit=1)[0]
    return language if language in LOCALES else None


def language_of_locale(environment: Mapping[str, str]) -> str:
    """Return the language of the environment's locale; English if that language has no catalogue."""
    locale = next((environment[name] for name in _OF_LOCALE if environment.get(name)), "")
    return language_named(locale) or "en"


def language_of_user(environment: Mapping[str, str]) -> str:
    """Return the user's language: the one in `LORALOOM_LANG` if it is known, otherwise the locale's.

    Args:
        environment: environment variables, as in `os.environ`.
    """
    return language_named(environment.get(VARIABLE, "")) or language_of_locale(environment)


@functools.cache
def catalogue_of(language: str) -> Catalogue:
    """Load the catalogue of a language, once.

    Args:
        language: one of `LOCALES`.
    """
    locale = LOCALES[language]
    return gettext.translation("loraloom", _LOCALE_FOLDER, [locale]) if locale else gettext.NullTranslations()
