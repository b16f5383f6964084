"""Names and formats of figures, shared by page, Markdown and tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from loraloom.text.message import Message
from loraloom.text.units import NONE, signed


@dataclass(frozen=True)
class Figure:
    """Presentation of one metric of a comparison.

    Args:
        label: the usual name of the metric.
        meaning: what it measures, in a few words.
        form: `share` is written in percent, `score` is 0 to 100, `ratio` and `loss` are plain numbers.
        higher_is_better: None if neither higher nor lower is better.
    """

    label: str
    meaning: str
    form: Literal["share", "score", "ratio", "loss"]
    higher_is_better: bool | None = None


# In the order of the page. Those above `retain_loss` can have a difference with an interval.
FIGURES: dict[str, Figure] = {
    "chrf": Figure("chrF", Message("character n-grams shared with the reference"), "score", True),
    "chrf_plus_plus": Figure(
        "chrF++", Message("character n-grams and word pairs shared with the reference"), "score", True
    ),
    "spbleu": Figure("spBLEU", Message("BLEU over the pieces of a sentencepiece model"), "score", True),
    "bleu": Figure(
        "BLEU", Message("n-grams shared with the reference, with a penalty for short answers"), "score", True
    ),
    "rouge_l": Figure("ROUGE-L", Message("longest common subsequence with the reference"), "score", True),
    "exact_match": Figure(Message("exact match"), Message("answers equal to the reference"), "share", True),
    "eval_loss": Figure(Message("loss"), Message("loss of the reference, per label token"), "loss", False),
    "length_ratio": Figure(Message("length"), Message("characters of answers / of references"), "ratio"),
    "retain_loss": Figure(
        Message("retained"),
        Message("loss on data.retain; an increase over the base means forgetting"),
        "loss",
        False,
    ),
    "share_changed": Figure(Message("changed"), Message("answers that differ from the base's"), "share"),
    "distinct_1": Figure("distinct-1", Message("distinct characters / all characters"), "ratio"),
    "distinct_2": Figure("distinct-2", Message("distinct character pairs / all pairs"), "ratio"),
    "share_repetitive": Figure(Message("repetitive"), Message("answers stuck in a loop"), "share"),
    "share_cut": Figure(Message("cut"), Message("answers that reached the token limit"), "share"),
}
_DIGITS = {"share": 1, "score": 1, "ratio": 3, "loss": 3}
_UNKNOWN = Figure("", "", "ratio")


def described(key: str) -> Figure:
    """Look up how to present a metric; an unknown metric has no label and is formatted as a ratio."""
    return FIGURES.get(key, _UNKNOWN)


def ordered(keys: Iterable[str]) -> list[str]:
    """Sort keys in the order of the page, unknown ones last."""
    found = list(dict.fromkeys(keys))
    return [key for key in FIGURES if key in found] + [key for key in found if key not in FIGURES]


def written(key: str, value: float | None, deviation: float | None = None) -> str:
    """Format a figure: `31.4`, `98.2 %`, or `31.4 ± 0.6` with its standard deviation over seeds."""
    if value is None:
        return NONE
    form = described(key).form
    scale, unit = (100, " %") if form == "share" else (1, "")
    spread = "" if deviation is None else f" ± {deviation * scale:.{_DIGITS[form]}f}"
    return f"{value * scale:.{_DIGITS[form]}f}{spread}{unit}"


def written_gain(key: str, value: float, base: float) -> str:
    """Format how much a figure differs from the base's: `+0.012`."""
    return signed(value - base, _DIGITS[described(key).form])


def p_written(p_value: float) -> str:
    """Format a p-value: `0.046`, `0.0002`, `< 0.0001`."""
    return f"{p_value:.2g}" if p_value >= 1e-4 else "< 0.0001"


def written_difference(key: str, difference: float, low: float, high: float) -> tuple[str, str, str]:
    """Format a difference and its interval, with an extra digit if one of them would be rounded to 0."""
    scale = 100 if described(key).form == "share" else 1
    digits = _DIGITS[described(key).form]
    values = [number * scale for number in (difference, low, high)]
    if any(value != 0 and abs(value) < 0.5 * 10**-digits for value in values):
        digits += 1
    first, second, third = (signed(value, digits) for value in values)
    return first, second, third


def verdict_word(key: str, verdict: str) -> str:
    """Return the verdict to show; "" for a metric for which neither higher nor lower is better."""
    return "" if key in FIGURES and FIGURES[key].higher_is_better is None else verdict
