"""The language of a page: from a cookie that the page sets, otherwise from `LORALOOM_LANG` or the locale."""

from __future__ import annotations

import os
from collections.abc import Mapping

from loraloom.text.language import LOCALES, language_of_user

COOKIE = "loraloom_language"
# Each language's own name.
NAMES = {"en": "English", "zh": "中文"}


def language_of(cookies: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> str:
    """Return the language of a request, one of `LOCALES`.

    Args:
        cookies: cookies of the request.
        environment: environment of the process.
    """
    wanted = cookies.get(COOKIE, "")
    return wanted if wanted in LOCALES else language_of_user(environment)
