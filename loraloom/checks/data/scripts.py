"""The check for rows that are in a different script from most others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from loraloom.checks.data.code_points import code_points, count_marked
from loraloom.checks.data.data_view import DataView, Side, places, share, shown_sides
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.text.message import Message, joined, marked
from loraloom.text.units import percent

# Script → its Unicode blocks of letters. Han stands for Chinese; Japanese also has kana.
_IN_SCRIPT = marked("{share} {sides} are mainly in {kind} script, but most are in {most}")
_IN_FORM = marked("{share} {sides} are in {kind} characters, but most are in {most}")
SCRIPTS: dict[str, tuple[tuple[int, int], ...]] = {
    "Han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "Latin": ((0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x1E00, 0x1EFF)),
    "kana": ((0x3041, 0x30FF),),
    "Hangul": ((0xAC00, 0xD7AF), (0x1100, 0x11FF)),
    "Cyrillic": ((0x400, 0x52F),),
    "Greek": ((0x370, 0x3FF),),
    "Arabic": ((0x600, 0x6FF), (0x750, 0x77F)),
    "Hebrew": ((0x5D0, 0x5EA),),
    "Devanagari": ((0x900, 0x97F),),
    "Thai": ((0xE00, 0xE7F),),
}
# The names of scripts, and of the two forms of Chinese characters, in messages.
KIND_NAMES: dict[str, Message] = {
    "Han": Message("Han"),
    "Latin": Message("Latin"),
    "kana": Message("kana"),
    "Hangul": Message("Hangul"),
    "Cyrillic": Message("Cyrillic"),
    "Greek": Message("Greek"),
    "Arabic": Message("Arabic"),
    "Hebrew": Message("Hebrew"),
    "Devanagari": Message("Devanagari"),
    "Thai": Message("Thai"),
    "simplified": Message("simplified"),
    "traditional": Message("traditional"),
}
# A word has about five letters in an alphabet, and one or two characters in Chinese.
LETTERS_A_WORD = {"Han": 1.5, "kana": 2.0, "Hangul": 2.5}
FEWEST_WORDS = 2.0
KANA_SHARE = 0.1  # share of the words; Chinese text has no kana, Japanese has Han and kana
FEW = 0.2  # a script with a larger share is intended, as in a file of two languages
CHUNK = 10_000

Counts = npt.NDArray[np.int64]


def check_scripts(view: DataView) -> list[Finding]:
    """Find the few rows whose script, or form of Chinese characters, differs from that of most rows."""
    findings = []
    summaries: list[str] = []
    for side in ("source", "response"):
        rows = view.rows
        scripts, forms = _of_rows([getattr(example, side) for example in rows])
        found, words = _few_among_many(rows, scripts, side, _IN_SCRIPT)
        findings += found
        summaries.append(
            Message("{sides}: {words}", sides=shown_sides(side), words=words)
            if words
            else Message("{sides}: no letters", sides=shown_sides(side))
        )
        findings += _few_among_many(rows, forms, side, _IN_FORM)[0]
    return findings or [Finding("ok", "scripts", "data", joined("; ", summaries))]


def _few_among_many(
    rows: Sequence[Example], kinds: Sequence[str], side: Side, wording: str
) -> tuple[list[Finding], str]:
    """Return notes on the scripts or forms that only a few rows have, and the shares of all, as text."""
    by_kind: dict[str, list[Example]] = {}
    for example, kind in zip(rows, kinds, strict=True):
        if kind:
            by_kind.setdefault(kind, []).append(example)
    total = sum(map(len, by_kind.values()))
    by_size = sorted(by_kind.items(), key=lambda item: -len(item[1]))
    few = [(kind, own) for kind, own in by_size if len(own) < FEW * total]
    most = by_size[0][0] if by_size else ""
    findings = [
        Finding(
            "note",
            "scripts",
            places(own),
            Message(
                wording,
                share=share(len(own), len(rows)),
                sides=shown_sides(side),
                kind=KIND_NAMES.get(kind, kind),
                most=KIND_NAMES.get(most, most),
            ),
            Message("Check whether these rows belong here."),
        )
        for kind, own in few
    ]
    return findings, joined(
        ", ",
        (
            Message("{num_own} {kind}", num_own=percent(len(own) / total), kind=KIND_NAMES.get(kind, kind))
            for kind, own in by_size
        ),
    )


def _of_rows(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each text's main script, and the form of its Chinese characters; "" if undetermined."""
    scripts: list[str] = []
    forms: list[str] = []
    for start in range(0, len(texts), CHUNK):
        codes, starts = code_points(texts[start : start + CHUNK])
        own = list(_main_scripts(codes, starts))
        scripts += own
        if "Han" not in own:
            forms += [""] * len(own)
            continue
        forms += [
            form if script == "Han" else ""  # Japanese has both forms in one sentence
            for form, script in zip(_forms(codes, starts), own, strict=True)
        ]
    return scripts, forms


def _main_scripts(codes: npt.NDArray[np.uint32], starts: Counts) -> Iterator[str]:
    words = np.stack(
        [
            count_marked(_in_blocks(codes, blocks), starts) / LETTERS_A_WORD.get(name, 5.0)
            for name, blocks in SCRIPTS.items()
        ]
    )
    names = list(SCRIPTS)
    kana = words[names.index("kana")]
    main = np.where(kana > KANA_SHARE * words.sum(axis=0), names.index("kana"), words.argmax(axis=0))
    enough = words.sum(axis=0) >= FEWEST_WORDS
    return (
        names[script] if some else "" for script, some in zip(main.tolist(), enough.tolist(), strict=True)
    )


def _in_blocks(codes: npt.NDArray[np.uint32], blocks: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(codes), bool)
    for first, last in blocks:
        inside |= (codes >= first) & (codes <= last)
    return inside


def _forms(codes: npt.NDArray[np.uint32], starts: Counts) -> Iterator[str]:
    """Yield the form of the Chinese characters in each text: "simplified", "traditional" or "".

    Only characters that exist in one form alone count. The form must have at least two of them, and more than
    the other form; otherwise "" is yielded.
    """
    in_table = np.minimum(codes, 0xFFFF)
    simplified, traditional = (
        count_marked(table[in_table], starts) for table in _only_simplified_and_traditional()
    )
    for simple, full in zip(simplified.tolist(), traditional.tolist(), strict=True):
        yield (
            "traditional"
            if full >= 2 and full > simple
            else "simplified"
            if simple >= 2 and simple > full
            else ""
        )


@cache
def _only_simplified_and_traditional() -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return two masks, bool [65536]: characters in GB 2312 but not in Big5, and the reverse.

    Python's codecs contain both character sets, so no table of variants is needed. The sets do not show
    which characters correspond to each other, and a rare character may be in only one of them although both
    forms use it.
    """
    sets = []
    for codec, firsts, lasts in (
        ("gb2312", range(0xB0, 0xF8), range(0xA1, 0xFF)),
        ("big5", range(0xA4, 0xFA), (*range(0x40, 0x7F), *range(0xA1, 0xFF))),
    ):
        # One call decodes all pairs; line breaks separate what an invalid pair leaves from the next.
        pairs = b"\n".join(bytes((first, last)) for first in firsts for last in lasts)
        chars = pairs.decode(codec, errors="ignore").split("\n")
        table = np.zeros(0x10000, bool)
        table[[ord(char) for char in chars if len(char) == 1 and "\u4e00" <= char <= "\u9fff"]] = True
        sets.append(table)
    simplified, traditional = sets
    return simplified & ~traditional, traditional & ~simplified
