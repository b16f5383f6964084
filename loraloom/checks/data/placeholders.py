"""Words that stand where an answer or a question is missing: `NA`, `null`, `N/A`, `TODO`, `无`.

They are texts like others to a reader of files, and an adapter learns to say them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from loraloom.checks.data.code_points import normalize
from loraloom.checks.data.data_view import DataView, places, share
from loraloom.checks.finding import Finding, Level
from loraloom.data.examples import Example

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
SIGNS = "signs alone"  # -, --, ?, …, ***
_SIGNS = re.compile(r"[-–—_?.…·。*#/\\|~xX]{1,8}")
_AROUND = " \t\r\n.。!！,，;；:：<>()[]{}（）【】「」\"'“”‘’`*_"
LONGEST = 24  # characters; a longer text is none
# Below the first share of the rows a few may be meant; from the second on they are no accident.
FEW, LARGE = 0.01, 0.05
LABELS = 50  # different answers that a set of labels may have


def check_placeholders(seen: DataView) -> list[Finding]:
    """No part has many answers or sources that are but a word for a missing text."""
    parts: dict[str, Sequence[Example]] = {f"data.{part}": rows for part, rows in seen.parts.items()}
    if seen.retained:
        parts["data.retain"] = seen.retained
    prefix = seen.settings.source_prefix
    findings = [
        finding
        for name, rows in parts.items()
        for finding in (
            *_responses(name, rows),
            *_sources(name, rows, "" if name == "data.retain" else prefix),
        )
    ]
    return findings or [Finding("ok", "placeholders", "data", "no answer or source stands for a missing one")]


def placeholder(text: str) -> str:
    """Which word for a missing text a text is, in small letters; empty if it is none."""
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
        shown = f"consist of {word}" if word == SIGNS else f"are `{word}`"
        message = f"{share(len(named), len(rows))} answers {shown}, one of few answers that there are"
        fix = (
            "If it is a label of yours, all is well; if it stands for a missing answer, take these rows out."
        )
        yield Finding("note", "placeholders", part, message, fix)
        return
    what = "stand for a missing answer and would be learnt as one"
    message = f"{share(len(named), len(rows))} answers {what}: {_listed(words)}"
    yield Finding(level, "placeholders", _where(part, named), message, "Take these rows out, or answer them.")


def _sources(part: str, rows: Sequence[Example], prefix: str) -> Iterator[Finding]:
    named, ends = [], []
    for example in rows:
        text = example.source.removeprefix(prefix).strip()
        if word := placeholder(text):
            named.append((example, word))
        elif word := placeholder(text.rpartition("\n")[2]):
            ends.append((example, word))
    if level := _level(len(named), len(rows)):
        message = f"{share(len(named), len(rows))} sources stand for a missing one: {_listed_of(named)}"
        fix = "Take these rows out; look whether data.columns names the right column."
        yield Finding(level, "placeholders", _where(part, named), message, fix)
    if level := _level(len(ends), len(rows)):
        message = f"{share(len(ends), len(rows))} sources end in a line that is but {_listed_of(ends)}"
        fix = "Leave the column empty in these rows: an empty input is left out of the source."
        yield Finding(level, "placeholders", _where(part, ends), message, fix)


def _level(num: int, total: int) -> Level | None:
    if num < 2 or num < FEW * total:
        return None
    return "warning" if num >= LARGE * total else "note"


def _are_labels(rows: Sequence[Example]) -> bool:
    """Whether the answers are a set of labels: few, short, and other ones than the placeholder come again."""
    counts = Counter(example.response for example in rows)
    others = [num for text, num in counts.items() if not placeholder(text)]
    are_short = all(len(text) <= 2 * LONGEST for text in counts)
    return are_short and len(others) > 0 and len(counts) <= LABELS and sum(others) >= 2 * len(others)


def _where(part: str, named: Sequence[tuple[Example, str]]) -> str:
    return f"{part}: {places(example for example, _ in named)}"


def _listed_of(named: Sequence[tuple[Example, str]]) -> str:
    return _listed(Counter(word for _, word in named))


def _listed(words: Counter[str]) -> str:
    """`na` 200, `null` 150: the words are of the list above, never a row's text."""
    return ", ".join(
        f"{word if word == SIGNS else f'`{word}`'} {num:,}" for word, num in words.most_common(6)
    )
