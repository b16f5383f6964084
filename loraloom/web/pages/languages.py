"""The language of a page: a cookie that the switch on the page sets, else `LORALOOM_LANG` and the locale."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loraloom.text.language import LOCALES, language_of_user

COOKIE = "loraloom_language"
# How a language names itself.
NAMES = {"en": "English", "zh": "中文"}


def language_of(cookies: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> str:
    """Return the language of a request, one of `LOCALES`.

    Args:
        cookies: those of the request.
        environment: of the process.
    """
    wanted = cookies.get(COOKIE, "")
    return wanted if wanted in LOCALES else language_of_user(environment)
