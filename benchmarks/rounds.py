"""What all benchmarks share: both sides in turn, some rounds of it, and ratios round by round.

A machine is now faster and now slower: the two times of one round can be compared, times of two rounds
or of two days cannot.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` is the benchmark's own docstring."""
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def ratio(over: Iterable[float], under: Iterable[float]) -> str:
    """How many times as long one side took as the other: the median of the rounds, and their range.

    >>> ratio([2.0, 4.2, 3.0], [1.0, 2.0, 1.0])
    '2.10 (2.00 to 3.00)'
    """
    each = [one / other for one, other in zip(over, under, strict=True)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"
