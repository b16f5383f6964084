"""Placeholders for a missing answer or question: `NA`, `null`, `N/A`, `TODO`, `无`.

To a file reader they are texts like any other, and an adapter learns to produce them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from loraloom.checks.data.code_points import normalize
from loraloom.checks.data.data_view import DataView, places, share
from loraloom.checks.finding import Finding, Level
from loraloom.data.example import Example
from loraloom.text.message import Message

NAMED = frozenset(
    {
        *("na", "n/a", "n.a", "n\\a", "#n/a", "#na", "null", "none", "nil", "nan", "undefined", "void"),
        *("not available", "not applicable", "no data", "no value", "no answer", "no response", "no output"),
        *("no input", "noinput", "nooutput", "missing", "empty", "blank", "placeholder", "lorem ipsum"),
        *("todo", "tbd", "tba", "tbc", "fixme", "xxx", "to be added", "to be done"),
        *("无", "暂无", "无数据", "暂无数据", "暂无回答", "无回答", "无答案", "空", "未填", "未填写", "待定"),
        *("待补充", "略", "該当なし", "なし", "未定", "없음", "해당 없음", "нет данных", "sin datos", "k.a"),
    }
)  # fmt: skip
SIGNS = Message("punctuation only")  # -, --, ?, …, ***
_SIGNS = re.compile(r"[-–—_?.…·。*#/\\|~xX]{1,8}")
_AROUND = " \t\r\n.。!！,，;；:：<>()[]{}（）【】「」\"'“”‘’`*_"
LONGEST = 24  # characters; a longer text is not a placeholder
# Below the first share of rows, a few may be intended; from the second share on, they are not accidental.
FEW, LARGE = 0.01, 0.05
LABELS = 50  # maximum number of different answers in a set of labels


def check_placeholders(view: DataView) -> list[Finding]:
    """Check that no part has many answers or sources that are placeholders for a missing text."""
    parts: dict[str, Sequence[Example]] = {f"data.{part}": rows for part, rows in view.parts.items()}
    if view.retained:
        parts["data.retain"] = view.retained
    prefix = view.settings.source_prefix
    findings = [
        finding
        for name, rows in parts.items()
        for finding in (
            *_responses(name, rows),
            *_sources(name, rows, "" if name == "data.retain" else prefix),
        )
    ]
    return findings or [
        Finding(
            "ok", "placeholders", "data", Message("no answer or source is a placeholder for a missing one")
        )
    ]


def placeholder(text: str) -> str:
    """Return the placeholder that is the whole text, in lower case; "" if the text is not a placeholder."""
    if len(text) > 2 * LONGEST:
        return ""
    plain = " ".join(normalize(text).casefold().split())
    if _SIGNS.fullmatch(plain.replace(" ", "")) and plain not in ("x", "."):
        return SIGNS
    for bare in (plain, plain.strip(_AROUND)):
        if bare in NAMED:
            return bare
    return ""


def _responses(part: str, rows: Sequence[Example]) -> Iterator[Finding]:
    named = [(example, word) for example in rows if (word := placeholder(example.response))]
    level = _level(len(named), len(rows))
    if level is None:
        return
    words = Counter(word for _, word in named)
    if level == "warning" and len(words) == 1 and _are_labels(rows):
        word = named[0][1]
        shown = (
            Message("consist of {word}", word=word) if word == SIGNS else Message("are `{word}`", word=word)
        )
        message = Message(
            "{share} answers {shown}, one of only a few different answers",
            share=share(len(named), len(rows)),
            shown=shown,
        )
        fix = Message(
            "If it is one of your labels, ignore this; if it stands for a missing answer, remove these rows."
        )
        yield Finding("note", "placeholders", part, message, fix)
        return
    what = Message("are placeholders for a missing answer and would be learnt as answers")
    message = Message(
        "{share} answers {what}: {listed}",
        share=share(len(named), len(rows)),
        what=what,
        listed=_listed(words),
    )
    yield Finding(
        level, "placeholders", _where(part, named), message, Message("Remove these rows, or answer them.")
    )


def _sources(part: str, rows: Sequence[Example], prefix: str) -> Iterator[Finding]:
    named, ends = [], []
    for example in rows:
        text = example.source.removeprefix(prefix).strip()
        if word := placeholder(text):
            named.append((example, word))
        elif word := placeholder(text.rpartition("\n")[2]):
            ends.append((example, word))
    if level := _level(len(named), len(rows)):
        message = Message(
            "{share} sources are placeholders for a missing one: {listed_of}",
            share=share(len(named), len(rows)),
            listed_of=_listed_of(named),
        )
        fix = Message("Remove these rows, and check that data.columns names the right column.")
        yield Finding(level, "placeholders", _where(part, named), message, fix)
    if level := _level(len(ends), len(rows)):
        message = Message(
            "{share} sources end in a line that is only {listed_of}",
            share=share(len(ends), len(rows)),
            listed_of=_listed_of(ends),
        )
        fix = Message("Leave the column empty in these rows; an empty input is not added to the source.")
        yield Finding(level, "placeholders", _where(part, ends), message, fix)


def _level(num: int, total: int) -> Level | None:
    if num < 2 or num < FEW * total:
        return None
    return "warning" if num >= LARGE * total else "note"


def _are_labels(rows: Sequence[Example]) -> bool:
    """Return whether the answers, except placeholders, are labels: few different ones, short and repeated."""
    counts = Counter(example.response for example in rows)
    others = [num for text, num in counts.items() if not placeholder(text)]
    are_short = all(len(text) <= 2 * LONGEST for text in counts)
    return are_short and len(others) > 0 and len(counts) <= LABELS and sum(others) >= 2 * len(others)


def _where(part: str, named: Sequence[tuple[Example, str]]) -> str:
    return Message("{part}: {places}", part=part, places=places((example for example, _ in named)))


def _listed_of(named: Sequence[tuple[Example, str]]) -> str:
    return _listed(Counter(word for _, word in named))


def _listed(words: Counter[str]) -> str:
    """Format the counts of placeholders: `na` 200, `null` 150. The words are never text from a row."""
    return ", ".join(
        f"{word if word == SIGNS else f'`{word}`'} {num:,}" for word, num in words.most_common(6)
    )
