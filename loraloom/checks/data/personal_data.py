"""Search for personal data, reported by kind and line. The data itself is never shown, stored or logged.

Measured: phonenumbers 9.0 takes 13 s for 100,000 rows (all kinds together take 4 s here), and mistakes
successive numbers (`120 2024 305`) for a phone number. python-stdnum computed the same check digits as this
module for 40,000 random numbers; it would replace only six lines, and is under the LGPL.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from loraloom.checks.data.code_points import normalize
from loraloom.checks.data.data_view import DataView, places
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message, joined

# GB 11643-1999: region, date of birth, sequence number, and a check digit by ISO 7064 MOD 11-2.
_ID_NUMBER = re.compile(
    r"(?<!\d)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dA-Za-z])"
)
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_MOBILE = re.compile(r"(?<![\d.])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\d.]\d|\d)")
_LANDLINE = re.compile(r"(?<![\d-])(?:\(0\d{2,3}\) ?|0\d{2,3}-)\d{7,8}(?![\d-])")
_ABROAD = re.compile(r"(?<![\d+])\+[1-9]\d{0,2}[ -]?(?:\(?\d{2,4}\)?[ -]?){2,4}\d{2,4}(?!\d)")
_MAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,12}(?![\w@])", re.ASCII
)
_MADE_UP_HOST = re.compile(
    r"@(?:example|test|email|domain|xxx+|company|yourcompany)\.|\.(?:test|example|invalid)$", re.IGNORECASE
)
_CHAT = re.compile(
    r"(?:微信|薇信|威信|wechat|weixin|(?<![a-z])v信|(?<![a-z])[vw]x(?![a-z]))(?:号码?|id)?\s*(?:是|为|[:：])?\s*"
    r"(?=[a-z-]{0,19}[0-9_])[a-z][a-z0-9_-]{5,19}(?![a-z0-9_-])"
    r"|(?:(?<![a-z])qq|扣扣)(?:群|号|群号|号码)?\s*(?:是|为|[:：])?\s*[1-9]\d{4,10}(?!\d)",
    re.IGNORECASE | re.ASCII,
)
_CARD = re.compile(
    r"(?<![\d.])(?:62|4|5[1-5]|2[2-7]|3[47]|35|9[0-9])\d{0,2}(?:[ -]?\d{4}){2,3}(?:[ -]?\d{1,5})?(?![\d.])"
)
_ADDRESS = re.compile(r"(?<![\d.vV])(?<!版本)(?<!版本号)(?:\d{1,3}\.){3}\d{1,3}(?![\d.]|\w)")
# Nearly all texts contain none of these and are skipped quickly.
_MAY_HOLD_ANY = re.compile(r"[\d@＠_]")
_MAY_HOLD = re.compile(r"\d{4}|@|\d\.\d+\.\d|微信|wechat|weixin|[vw]x|v信|薇信", re.IGNORECASE)


def is_id_number(text: str) -> bool:
    """Return whether the last of 18 characters is the check digit of a Chinese ID number."""
    total = sum(int(digit) * weight for digit, weight in zip(text, _ID_WEIGHTS, strict=False))
    return text[17].upper() == "10X98765432"[total % 11]


def is_card_number(text: str) -> bool:
    """Return whether a text's digits form a card number (ISO/IEC 7812): 15 to 19, with a Luhn check digit."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return 15 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_public_address(text: str) -> bool:
    try:
        return ipaddress.IPv4Address(text).is_global
    except ValueError:
        return False


def _is_real_mail(text: str) -> bool:
    return not _MADE_UP_HOST.search(text)


def _any(text: str) -> bool:
    return True


# In order of precedence; text that one kind has matched is not matched by another.
KINDS: dict[str, tuple[tuple[re.Pattern[str], ...], Callable[[str], bool]]] = {
    Message("ID numbers"): ((_ID_NUMBER,), is_id_number),
    Message("bank card numbers"): ((_CARD,), is_card_number),
    Message("WeChat or QQ numbers"): ((_CHAT,), _any),
    Message("email addresses"): ((_MAIL,), _is_real_mail),
    Message("phone numbers"): ((_MOBILE, _LANDLINE, _ABROAD), _any),
    Message("IP addresses"): ((_ADDRESS,), _is_public_address),
}


def personal_kinds(text: str) -> Iterator[str]:
    """Yield the kinds of personal data in a text."""
    if not _MAY_HOLD_ANY.search(text):
        return
    text = normalize(text)
    if not _MAY_HOLD.search(text):
        return
    for kind, (patterns, is_real) in KINDS.items():
        rest = text
        for pattern in patterns:
            rest = _without(rest, pattern, is_real)
        if rest != text:
            yield kind
        text = rest


def _without(text: str, pattern: re.Pattern[str], is_real: Callable[[str], bool]) -> str:
    """Return a text in which the matches of a pattern are blanked out if `is_real` confirms them."""
    return pattern.sub(
        lambda match: "\0" * len(match.group()) if is_real(match.group()) else match.group(), text
    )


def check_personal_data(view: DataView) -> list[Finding]:
    """Find personal numbers and addresses, which a model may memorize and reveal to anyone."""
    found: dict[str, list[Example]] = {}
    for example in view.rows:
        for kind in {*personal_kinds(example.source), *personal_kinds(example.response)}:
            found.setdefault(kind, []).append(example)
    fix = Message("Remove or replace them; a model may reveal them to anyone.")
    return [
        Finding(
            "warning",
            "personal-data",
            places(rows),
            Message(
                "{kind} in {num_found:,} of {num_rows:,} rows",
                kind=kind,
                num_found=len(rows),
                num_rows=len(view.rows),
            ),
            fix,
        )
        for kind in KINDS
        if (rows := found.get(kind))
    ] or [
        Finding(
            "ok",
            "personal-data",
            "data",
            Message("none of these was found: {kinds}", kinds=joined(", ", KINDS)),
        )
    ]
