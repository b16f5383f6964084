"""Choice of the word tokenizer for BLEU by the script of the references."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from loraloom.text.units import percent

# Scripts without spaces between words, for which no sacrebleu tokenizer works without a download.
WITHOUT_SPACES = {
    "THAI": "Thai",
    "LAO": "Lao",
    "KHMER": "Khmer",
    "MYANMAR": "Burmese",
    "TIBETAN": "Tibetan",
    "JAVANESE": "Javanese",
    "BALINESE": "Balinese",
    "TAI": "Tai",
    "NEW": "Tai",  # NEW TAI LUE LETTER …
}
NAMES = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
OTHER = "spaced"  # scripts with spaces between words
TOKENIZERS = {"Chinese": "zh", "Japanese": "ja-mecab", "Korean": "ko-mecab", OTHER: "13a"}
EXTRAS = {"ja-mecab": "ja", "ko-mecab": "ko"}
KANA_SHARE = 0.05  # of kana in kana and Han letters, for Japanese; Chinese text has no kana
PURE = 0.95  # share of letters; below it, the signature names the other scripts


@dataclass(frozen=True)
class Words:
    """Word tokenization of references.

    Args:
        tokenizer: sacrebleu's name for the tokenizer; None if sacrebleu has no tokenizer for the script.
        script: the script that most letters belong to.
        shares: share of letters in each script, largest first.
    """

    tokenizer: str | None
    script: str
    shares: dict[str, float]

    @property
    def signature(self) -> str:
        """The share of each script, as a suffix of a metric's signature; "" if one has nearly all letters."""
        if self.shares.get(self.script, 1.0) >= PURE:
            return ""
        parts = (
            f"{name} {percent(round(share, 2))}" for name, share in self.shares.items() if round(share, 2)
        )
        return f"|letters:{', '.join(parts)}"


def words_of(references: Sequence[str]) -> Words:
    """Choose the tokenization by the script that most letters of the references belong to."""
    letters: Counter[str] = Counter()
    for char, num in Counter(unicodedata.normalize("NFKC", "".join(references))).items():
        if char.isalpha():
            letters[_script(char)] += num
    # Japanese is also written in Han letters.
    if letters["Japanese"] > KANA_SHARE * (letters["Japanese"] + letters["Chinese"]):
        letters["Japanese"] += letters.pop("Chinese", 0)
    shares = {name: num / letters.total() for name, num in letters.most_common() if num}
    script = next(iter(shares), OTHER)
    if shares.get(OTHER) == shares.get(script):
        script = OTHER
    return Words(TOKENIZERS.get(script), script, shares)


def _script(char: str) -> str:
    first = unicodedata.name(char, "").partition(" ")[0]
    return NAMES.get(first) or WITHOUT_SPACES.get(first, OTHER)
