"""Reading of `.pot` and `.po` files, so that tests of them need no Babel."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from tools.messages.templates import Template

_TEXT = r'((?:".*"\n)+)'
_ENTRY = re.compile(
    rf"((?:#.*\n)*)msgid {_TEXT}(?:msgid_plural {_TEXT})?((?:msgstr(?:\[\d\])? {_TEXT})+)", re.MULTILINE
)
_TRANSLATION = re.compile(rf"msgstr(?:\[\d\])? {_TEXT}")


class Entry(NamedTuple):
    """A message of a file.

    Args:
        template: its id.
        translations: one for each plural form; empty texts if there are none.
        is_fuzzy: whether the translation is marked as a guess.
    """

    template: Template
    translations: list[str]
    is_fuzzy: bool


def entries(file: Path) -> list[Entry]:
    """All messages of a file, without its header."""
    found = []
    for match in _ENTRY.finditer(file.read_text(encoding="utf-8")):
        comments, own, plural, translations = match.group(1, 2, 3, 4)
        texts = [_joined(each) for each in _TRANSLATION.findall(translations)]
        is_fuzzy = any(line.startswith("#,") and "fuzzy" in line for line in comments.splitlines())
        found.append(Entry(Template(_joined(own), _joined(plural or "")), texts, is_fuzzy))
    return [entry for entry in found if entry.template.text]


def _joined(lines: str) -> str:
    return "".join(map(ast.literal_eval, lines.splitlines()))
