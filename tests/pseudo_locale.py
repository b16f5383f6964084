"""A language for tests: every letter of a template is written in full width, and values are not."""

from __future__ import annotations

import gettext
import re

_FULL_WIDTH = {
    ord(char): ord(char) + 0xFEE0 for char in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
}
_PLACEHOLDER = re.compile(r"(\{\w+(?::[^}]*)?\})")


def wide(template: str) -> str:
    """Write a template in full width, leaving its placeholders."""
    pieces = _PLACEHOLDER.split(template)
    return "".join(p if number % 2 else p.translate(_FULL_WIDTH) for number, p in enumerate(pieces))


def narrow(text: str) -> str:
    """Write a text as it was."""
    return text.translate({wide: plain for plain, wide in _FULL_WIDTH.items()})


class PseudoLocale(gettext.NullTranslations):
    """A catalogue that has every template."""

    def gettext(self, message: str) -> str:
        return wide(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return wide(msgid1 if n == 1 else msgid2)
