"""Metrics over answers and references: each is an entry in `METRICS` with three functions.

`statistics` gives every row a few numbers that can be summed, `figure` computes the metric from their
sum, and `signature` states what is computed. So a metric over any selection of rows costs one sum; the
bootstrap makes thousands of such selections.

Answers and references are first normalized to NFKC: T5 tokenizers turn '？' into '?', so a perfect
Chinese answer would otherwise not match its reference. Metrics that need no references are in
`DESCRIPTIONS`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics import BLEU, CHRF

from loraloom.evaluate.word_tokenizers import EXTRAS, Words, words_of
from loraloom.text.message import Message

Numbers = npt.NDArray[np.float64]
REPEATED_LENGTH, REPEATED_SHARE = 4, 0.5


@dataclass(frozen=True)
class Metric:
    """A metric and how it is computed.

    Args:
        statistics: (answers, references) → float64 [rows, k], which may be summed over rows.
        figure: sums float64 [..., k] → values of the metric, float64 [...].
        signature: references → description of the metric, with versions and options, as sacrebleu writes it.
        higher_is_better: whether higher is better; None if neither direction is better (a length ratio).
        unit: unit of the metric.
    """

    statistics: Callable[[Sequence[str], Sequence[str]], Numbers]
    figure: Callable[[Numbers], Numbers]
    signature: Callable[[Sequence[str]], str]
    higher_is_better: bool | None = True
    unit: str = ""

    def compute(self, answers: Sequence[str], references: Sequence[str]) -> float:
        """Compute the metric over all rows."""
        return float(self.figure(self.statistics(answers, references).sum(axis=0)))


def normalise(text: str) -> str:
    """Normalize to NFKC, without leading and trailing white space."""
    return unicodedata.normalize("NFKC", text).strip()


def _ratio(sums: Numbers) -> Numbers:
    """Compute sums[…, 0] / sums[…, 1], float64 […]; 0 where the divisor is 0."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)


# chrF: Popović, 2015; character orders 1 to 6, beta 2, as sacrebleu's default.


@cache
def _chrf(word_order: int = 0) -> CHRF:
    return CHRF(word_order=word_order)


def _chrf_statistics(answers: Sequence[str], references: Sequence[str], word_order: int = 0) -> Numbers:
    pairs = [normalise(a) for a in answers], [[normalise(r) for r in references]]
    return np.array(_chrf(word_order)._extract_corpus_statistics(*pairs), dtype=np.float64)


def _chrf_figure(sums: Numbers) -> Numbers:
    """Compute chrF for many sums at once; `tests/evaluate` verifies that the values equal sacrebleu's."""
    answer, reference, match = (sums[..., start::3] for start in range(3))
    is_counted = (answer > 0) & (reference > 0)
    orders = np.maximum(is_counted.sum(-1), 1)
    precision = np.divide(match, answer, out=np.zeros_like(match), where=is_counted).sum(-1) / orders
    recall = np.divide(match, reference, out=np.zeros_like(match), where=is_counted).sum(-1) / orders
    factor: int = _chrf().beta ** 2
    below: Numbers = factor * precision + recall
    above: Numbers = 100 * (1 + factor) * precision * recall
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def _chrf_signature(references: Sequence[str], word_order: int = 0) -> str:
    metric = CHRF(word_order=word_order)
    metric.corpus_score(["a"], [["a"]])
    return f"{metric.get_signature()}|norm:NFKC"


# BLEU: Papineni et al., 2002, with sacrebleu's tokenizers and its exponential smoothing.


@cache
def _bleu(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer)


def why_no_bleu(words: Words) -> str:
    """Explain why BLEU cannot be computed for these references; "" if it can."""
    if words.tokenizer is None:
        return Message(
            "sacrebleu has no tokenizer for {script}, which is written without spaces between "
            "words; use chrF or ROUGE-L, which compare characters",
            script=words.script,
        )
    try:
        _bleu(words.tokenizer)
    except (RuntimeError, ImportError):  # what sacrebleu raises for a missing extra
        extra = EXTRAS[words.tokenizer]
        return Message(
            "sacrebleu's {tokenizer} tokenizer for {script} is not installed; run pip install "
            "'loraloom[{extra}]'",
            tokenizer=words.tokenizer,
            script=words.script,
            extra=extra,
        )
    return ""


def _bleu_statistics(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    words = words_of(references)
    if why := why_no_bleu(words):
        raise ValueError(why)
    pairs = [normalise(a) for a in answers], [[normalise(r) for r in references]]
    found = _bleu(str(words.tokenizer))._extract_corpus_statistics(*pairs)
    return np.array(found, dtype=np.float64)


def bleu_figure(sums: Numbers) -> Numbers:
    """Compute BLEU for many sums at once; `tests/evaluate` verifies that the values equal sacrebleu's."""
    answer_len, reference_len = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2:6], sums[..., 6:10]
    # An order without a match counts as half a match, the next such order as a quarter, and so on.
    halvings = np.cumsum((correct == 0) & (total > 0), axis=-1)
    smoothed = np.where(correct > 0, correct, 0.5**halvings)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(np.where(total > 0, smoothed / total, 0)).mean(-1)
        brevity = np.where(answer_len < reference_len, np.exp(1 - reference_len / answer_len), 1.0)
        score = 100 * brevity * np.exp(logs)
    return np.where((correct.sum(-1) > 0) & (answer_len > 0), score, 0.0)


def _bleu_signature(references: Sequence[str]) -> str:
    words = words_of(references)
    if why := why_no_bleu(words):
        return f"not computed: {why}{words.signature}"
    metric = BLEU(tokenize=str(words.tokenizer))
    metric.corpus_score(["a"], [["a"]])
    return f"{metric.get_signature()}|norm:NFKC{words.signature}"


# ROUGE-L: Lin, 2004, over characters: rouge-score drops everything outside [a-z0-9].


def _rouge_statistics(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    pairs = [(normalise(a), normalise(r)) for a, r in zip(answers, references, strict=True)]
    scores = [2 * common_subsequence(a, r) / (len(a) + len(r)) if a or r else 1.0 for a, r in pairs]
    return np.column_stack([100 * np.array(scores), np.ones(len(scores))])


def common_subsequence(a: str, b: str) -> int:
    """Compute the length of the longest common subsequence with bit-parallel arithmetic.

    Source: Hyyrö, 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for position, char in enumerate(a):
        places[char] = places.get(char, 0) | 1 << position
    everything = (1 << len(a)) - 1
    row = everything
    for char in b:
        matches = row & places.get(char, 0)
        row = (row + matches | row - matches) & everything
    return len(a) - row.bit_count()


def _exact_statistics(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    hits = [normalise(a) == normalise(r) for a, r in zip(answers, references, strict=True)]
    return np.column_stack([np.array(hits, dtype=np.float64), np.ones(len(hits))])


def _length_statistics(answers: Sequence[str], references: Sequence[str]) -> Numbers:
    return np.array(
        [(len(normalise(a)), len(normalise(r))) for a, r in zip(answers, references, strict=True)],
        dtype=np.float64,
    ).reshape(-1, 2)


def _own(text: str) -> Callable[[Sequence[str]], str]:
    return lambda references: f"{text}|norm:NFKC"


METRICS: dict[str, Metric] = {
    "chrf": Metric(_chrf_statistics, _chrf_figure, _chrf_signature),
    "bleu": Metric(_bleu_statistics, bleu_figure, _bleu_signature),
    "rouge_l": Metric(_rouge_statistics, _ratio, _own("ROUGE-L|units:characters|F1|mean over rows")),
    "exact_match": Metric(_exact_statistics, _ratio, _own("exact match|share of rows")),
    "length_ratio": Metric(
        _length_statistics, _ratio, _own("characters of answers / of references"), higher_is_better=None
    ),
}


# chrF++: Popović, 2017; word orders 1 and 2, as usually reported for translation into many languages.
TRANSLATION_METRICS: dict[str, Metric] = {
    "chrf_plus_plus": Metric(
        partial(_chrf_statistics, word_order=2), _chrf_figure, partial(_chrf_signature, word_order=2)
    ),
}


def share_changed(answers: Sequence[str], base_answers: Sequence[str]) -> float:
    """Compute the share, from 0 to 1, of answers that differ at all from the base's."""
    return sum(a != b for a, b in zip(answers, base_answers, strict=True)) / len(answers)


def distinct(answers: Sequence[str], n: int) -> float:
    """Compute distinct-n for characters: distinct n-grams divided by all n-grams (Li et al., 2016)."""
    grams = Counter(gram for answer in answers for gram in _grams(normalise(answer), n))
    return len(grams) / grams.total() if grams else 0.0


def share_repetitive(answers: Sequence[str]) -> float:
    """Compute the share of answers that are stuck in a loop, as defined by `is_repetitive`."""
    return sum(is_repetitive(answer) for answer in answers) / len(answers)


def is_repetitive(answer: str) -> bool:
    """Return whether most of an answer's character 4-grams occur in it more than once.

    An answer of fewer than 8 such 4-grams is never called repetitive.
    """
    grams = Counter(_grams(normalise(answer), REPEATED_LENGTH))
    repeated = sum(count for count in grams.values() if count > 1)
    return grams.total() >= 2 * REPEATED_LENGTH and repeated > REPEATED_SHARE * grams.total()


def _grams(text: str, n: int) -> list[str]:
    return [text[start : start + n] for start in range(len(text) - n + 1)]


DESCRIPTIONS: dict[str, Callable[[Sequence[str]], float]] = {
    "distinct_1": lambda answers: distinct(answers, 1),
    "distinct_2": lambda answers: distinct(answers, 2),
    "share_repetitive": share_repetitive,
}
