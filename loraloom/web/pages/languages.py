"""The language of a page: a cookie that the switch on the page sets, else `LORALOOM_LANG` and the locale."""

from __future__ import annotations

import gettext
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from loraloom.text.message import Catalogue

COOKIE = "loraloom_language"
ENGLISH = "en"
FOLDER = Path(__file__).parents[2] / "locale"
# How a language names itself.
NAMES = {ENGLISH: "English", "zh_CN": "中文"}
_VARIABLES = ("LORALOOM_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


@cache
def catalogues() -> dict[str, Catalogue]:
    """Return the catalogue of each language that the package has, English first."""
    found: dict[str, Catalogue] = {ENGLISH: gettext.NullTranslations()}
    for file in sorted(FOLDER.glob("*/LC_MESSAGES/loraloom.mo")):
        with file.open("rb") as opened:
            found[file.parts[-3]] = gettext.GNUTranslations(opened)
    return found


def language_of(cookies: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> str:
    """Return the language of a request, as a name in `catalogues`.

    Args:
        cookies: those of the request.
        environment: of the process.
    """
    wanted = cookies.get(COOKIE, "")
    if wanted in catalogues():
        return wanted
    stated = next((value for name in _VARIABLES if (value := environment.get(name))), "")
    code = stated.partition(".")[0].replace("-", "_")
    known = catalogues()
    if code in known:
        return code
    return next((name for name in known if name.partition("_")[0] == code.partition("_")[0]), ENGLISH)
