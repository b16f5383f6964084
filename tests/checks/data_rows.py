"""Rows for the data checks, without files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.finding import Finding
from loraloom.data.example import Example
from loraloom.data.splitting.split import Split
from loraloom.recipe import DataSettings

Pairs = Sequence[tuple[str, str]]
_WORDS = "焦虑朋友考试失眠工作家里同事孩子老师邻居压力争吵搬家生病分手债务迷茫孤独嫉妒后悔"
WORDS = [_WORDS[place : place + 2] for place in range(0, len(_WORDS), 2)]


def good(number: int = 20, first: int = 0) -> list[tuple[str, str]]:
    """Sources and responses that no check has anything to say about."""
    return [
        (
            f"{WORDS[n % 20]}与{WORDS[n // 20 % 20]}总让我想起第{n}件旧事，怎么办？",
            f"{WORDS[(7 * n + 3) % 20]}并不少见，{WORDS[(11 * n + n // 20) % 20]}也会过去。"
            f"先写下第{n}个念头。",
        )
        for n in range(first, first + number)
    ]


def examples(pairs: Pairs, path: str = "data.jsonl") -> list[Example]:
    """One row a line."""
    return [
        Example(source, response, path, row=n, line=n, turn=0, group=str(n))
        for n, (source, response) in enumerate(pairs, start=1)
    ]


def seen(
    train: Pairs,
    *,
    held_out: Pairs = (),
    tokenizer: TextTokenizer | None = None,
    max_new_tokens: int | None = None,
    **settings: Any,
) -> DataView:
    """What the checks look at; `held_out` is the eval part, of a file of its own."""
    split = Split(examples(train), examples(held_out, "eval.jsonl"), [], {}, [])
    data = DataSettings(train="data.jsonl", **settings)
    return DataView(split, data, tokenizer, max_new_tokens=max_new_tokens)


def only(findings: Sequence[Finding]) -> Finding:
    """The one finding there is."""
    assert len(findings) == 1, findings
    return findings[0]
