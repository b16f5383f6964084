"""How a figure is named, read and written: the one table that page, Markdown and tests share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MINUS = "\u2212"


@dataclass(frozen=True)
class Figure:
    """One figure of a comparison, for readers.

    Args:
        label: its name as the field writes it.
        meaning: what it says, in a few words.
        form: `share` is written in per cent, `score` is 0 to 100, `ratio` is a plain number.
        higher_is_better: None where neither is.
    """

    label: str
    meaning: str
    form: Literal["share", "score", "ratio", "loss"]
    higher_is_better: bool | None = None


# In the order of the page. The first six can carry a difference with an interval.
FIGURES: dict[str, Figure] = {
    "chrf": Figure("chrF", "character n-grams shared with the reference", "score", True),
    "bleu": Figure("BLEU", "word n-grams shared with the reference", "score", True),
    "rouge_l": Figure("ROUGE-L", "longest common subsequence with the reference", "score", True),
    "exact_match": Figure("exact match", "answers equal to the reference", "share", True),
    "eval_loss": Figure("loss", "of the reference, per label token", "loss", False),
    "length_ratio": Figure("length", "characters of answers / of references", "ratio"),
    "share_changed": Figure("changed", "answers that differ from the base's", "share"),
    "distinct_1": Figure("distinct-1", "different characters per character", "ratio"),
    "distinct_2": Figure("distinct-2", "different character pairs per pair", "ratio"),
    "share_repetitive": Figure("repetitive", "answers stuck in a loop", "share"),
    "share_cut": Figure("cut", "answers that ran into the token limit", "share"),
}
_DIGITS = {"share": 1, "score": 1, "ratio": 3, "loss": 4}
_UNKNOWN = Figure("", "", "ratio")


def described(key: str) -> Figure:
    """What is known of a figure; one that is not in the table is shown under its own key."""
    return FIGURES.get(key, _UNKNOWN)


def ordered(keys: Iterable[str]) -> list[str]:
    """Keys in the order of the page, unknown ones last."""
    found = list(dict.fromkeys(keys))
    return [key for key in FIGURES if key in found] + [key for key in found if key not in FIGURES]


def written(key: str, value: float | None) -> str:
    """A figure: `31.4`, `98.2 %`, `4.1303`."""
    if value is None:
        return "–"
    form = described(key).form
    if form == "share":
        return f"{value * 100:.1f} %"
    return f"{value:.{_DIGITS[form]}f}"


def written_difference(key: str, difference: float, low: float, high: float) -> tuple[str, str, str]:
    """A difference and its interval, all with as many digits as the smallest of them needs to be seen."""
    scale = 100 if described(key).form == "share" else 1
    digits = _DIGITS[described(key).form]
    values = [number * scale for number in (difference, low, high)]
    for _ in range(2):
        if any(value != 0 and abs(value) < 0.5 * 10**-digits for value in values):
            digits += 1
    first, second, third = (signed(value, digits) for value in values)
    return first, second, third


def signed(value: float, digits: int) -> str:
    """With its sign, and a minus as wide as the plus; what rounds to nothing has none."""
    text = f"{abs(value):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if value > 0 else MINUS
    return f"{sign}{text}"


def bytes_written(count: int | None) -> str:
    """A size as people read it: 84.2 kB, 1.3 GB (powers of 1000, as disks and PEFT count)."""
    if count is None:
        return "–"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def seconds_written(seconds: float | None) -> str:
    """A duration: 6.6 s, 12 min 3 s, 2 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
