"""Rows of several language pairs for the tests of multilingual bases, and what transformers makes of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet, encode
from tests.tiny_multilingual import LETTERS

# Two languages of each kind, and a third that only answers have.
CODES = {
    "m2m100": ("de", "en", "zh"),
    "nllb": ("deu_Latn", "eng_Latn", "zho_Hans"),
    "mbart": ("de_DE", "en_XX", "zh_CN"),
    "mbart50": ("de_DE", "en_XX", "sl_SI"),
}


@dataclass(frozen=True)
class TextRow:
    """A row as encoding reads it."""

    source: str
    response: str
    source_lang: str
    target_lang: str
    parts: bytes = b""


def text_rows(kind: str, num: int, seed: int = 0) -> list[TextRow]:
    """Rows of mixed lengths in all directions between a kind's languages."""
    drawn = random.Random(seed)
    german, english, chinese = CODES[kind]
    pairs = [(german, english), (english, german), (german, chinese), (english, chinese)]

    def text() -> str:
        words = ["".join(drawn.choices(LETTERS, k=drawn.randint(1, 4))) for _ in range(drawn.randint(1, 4))]
        return " ".join(words)

    return [TextRow(text(), text(), *pairs[number % 4]) for number in range(num)]


def encoded_rows(base: Base, rows: list[TextRow], limit: int = 64) -> EncodedSet:
    """The same rows as our base reads them."""
    return encode(
        rows,
        base.tokenizer,
        max_source_length=limit,
        max_target_length=limit,
        languages=base.languages,
    )


def encoded_by_transformers(tokenizer: Any, row: TextRow) -> tuple[list[int], list[int]]:
    """The tokens of source and target as the tokenizer's own documentation has it."""
    tokenizer.src_lang, tokenizer.tgt_lang = row.source_lang, row.target_lang
    return tokenizer(row.source)["input_ids"], tokenizer(text_target=row.response)["input_ids"]
