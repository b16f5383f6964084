"""Characters that were damaged, are invisible, or are remnants of a web page."""

from __future__ import annotations

import re
from collections.abc import Callable

from loraloom.checks.data.data_view import DataView, places, share
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message

# U+FFFD twice in UTF-8, read as GBK; memory filled by a debugger, read as GBK.
_KNOWN_DAMAGE = re.compile("\ufffd|锟斤拷|烫烫烫|屯屯屯")
# UTF-8 read as Latin-1 or Windows-1252: the character of a first byte, then that of a following byte.
_LATIN_DAMAGE = re.compile(
    "[ÂÃ][\u0080-\u00bf]|â€[\u0080-\u00bf™œ”“˜¦]|[äåæçèé][\u0080-\u00bf][\u0080-\u00bf]|ï»¿"
)
# Zero-width characters that join emoji or Persian letters are intended; these hide or reverse text.
_UNSEEN = re.compile("[\u0080-\u0084\u0086-\u009f\u200b\u2060\u202a-\u202e\u2066-\u2069\ufeff]")
_PRIVATE = re.compile("[\ue000-\uf8ff]")
# Every text that matches one of the patterns above contains one of these.
_SUSPECT = re.compile("[\ufffd锟烫屯\u0080-\u00ff\u200b\u202a-\u202e\u2060-\u206f\ue000-\uf8ff\ufeff]")
_HTML = re.compile(
    r"&(?:nbsp|lt|gt|amp|quot|apos|#\d{2,5});|</?(?:p|br|div|span|font|strong|em|img|a)\b[^<>\n]{0,200}>",
    re.IGNORECASE,
)
# A question about HTML or code contains tags on purpose.
_IS_CODE = re.compile(r"```|<!DOCTYPE|<html|<body|<head|HTML|</?script", re.IGNORECASE)
# A text counts as UTF-8 read as GBK if at least this many of its first characters decode correctly.
SHORTEST, LOOKED_AT = 4, 24


def check_characters(view: DataView) -> list[Finding]:
    """Find characters that are damaged, invisible, or meaningful only in a particular font."""
    rows: dict[str, list[Example]] = {}
    for example in view.rows:
        if _is_unsuspicious(example.source) and _is_unsuspicious(example.response):
            continue
        for what, (is_so, _) in CHARACTERS.items():
            if is_so(example.source) or is_so(example.response):
                rows.setdefault(what, []).append(example)
                break  # damaged text also contains invisible and private-use characters
    findings = [
        Finding(
            "warning",
            "characters",
            places(rows[what]),
            Message("{share} rows {what}", share=share(len(rows[what]), len(view.rows)), what=what),
            fix,
        )
        for what, (_, fix) in CHARACTERS.items()
        if what in rows
    ]
    return findings or [Finding("ok", "characters", "data", Message("no damaged or invisible characters"))]


def check_html(view: DataView) -> list[Finding]:
    """Find tags and entities that were left in texts that are not about HTML."""
    rows = [example for example in view.rows if has_html(example.source) or has_html(example.response)]
    if not rows:
        return [Finding("ok", "html", "data", Message("no remnants of HTML"))]
    what = Message("rows contain remnants of HTML (tags such as <br>, entities such as &nbsp;)")
    message = Message("{share} {what}", share=share(len(rows), len(view.rows)), what=what)
    return [Finding("warning", "html", places(rows), message, Message("Remove them."))]


def _is_unsuspicious(text: str) -> bool:
    return text.isascii() or not (_SUSPECT.search(text) or _is_utf8_read_as_gbk(text))


def is_damaged(text: str) -> bool:
    """Return whether a text was ever read in an encoding other than the one it was written in."""
    if text.isascii():
        return False
    return bool(_KNOWN_DAMAGE.search(text) or _LATIN_DAMAGE.search(text)) or _is_utf8_read_as_gbk(text)


def has_html(text: str) -> bool:
    """Return whether HTML was left in a text that is not about HTML."""
    return ("<" in text or "&" in text) and _HTML.search(text) is not None and not _IS_CODE.search(text)


def _is_utf8_read_as_gbk(text: str) -> bool:
    """Return whether a text, if encoded as GBK and decoded as UTF-8, is mostly East Asian characters.

    This does not happen by chance: such a character takes two bytes in GBK, but three in UTF-8, each from a
    fixed range.
    """
    back = text[:LOOKED_AT].encode("gb18030", errors="ignore").decode("utf-8", errors="replace")
    right = sum(char >= "\u2e80" and char != "\ufffd" for char in back)
    return right >= SHORTEST and right > 0.6 * sum(not char.isascii() for char in back)


# Problem of a row → (test for this problem in a text, what to do).
CHARACTERS: dict[str, tuple[Callable[[str], bool], str]] = {
    Message("contain damaged characters (U+FFFD, or text that was read in the wrong encoding)"): (
        is_damaged,
        Message("Read the original file again in its own encoding (`data.encoding`)."),
    ),
    Message("contain invisible characters (zero width, direction, control)"): (
        lambda text: _UNSEEN.search(text) is not None,
        Message("Remove them; otherwise the model learns to write them."),
    ),
    Message("contain private-use characters, which are meaningless without a particular font"): (
        lambda text: _PRIVATE.search(text) is not None,
        Message("Replace them with the characters they stand for."),
    ),
}
