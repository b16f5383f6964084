"""Figures over answers and references: one function and one entry in `METRICS` each.

Both sides are NFKC-normalised first: T5 tokenizers turn '？' into '?', so without it a perfect
Chinese answer would not match its reference.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sacrebleu.metrics import CHRF


@dataclass(frozen=True)
class Metric:
    """A figure, and how it is computed.

    Args:
        compute: (answers, references) → the figure.
        signature: what was computed with which version and options, as sacrebleu writes it.
        higher_is_better: or lower.
    """

    compute: Callable[[Sequence[str], Sequence[str]], float]
    signature: Callable[[], str]
    higher_is_better: bool = True


def normalise(text: str) -> str:
    """NFKC, without white space at the ends."""
    return unicodedata.normalize("NFKC", text).strip()


def chrf(answers: Sequence[str], references: Sequence[str]) -> float:
    """Character n-gram F-score over all rows together (Popović, 2015), 0 to 100."""
    metric = CHRF()
    return float(
        metric.corpus_score([normalise(a) for a in answers], [[normalise(r) for r in references]]).score
    )


def chrf_signature() -> str:
    """sacrebleu's own signature of `chrf`, with the normalisation."""
    metric = CHRF()
    metric.corpus_score(["a"], [["a"]])
    return f"{metric.get_signature()}|norm:NFKC"


def share_changed(answers: Sequence[str], base_answers: Sequence[str]) -> float:
    """The share of answers that differ from the base's at all, 0 to 1."""
    return sum(a != b for a, b in zip(answers, base_answers, strict=True)) / len(answers)


METRICS: dict[str, Metric] = {"chrf": Metric(chrf, chrf_signature)}
