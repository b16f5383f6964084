"""Texts as arrays of code points, to examine a million rows without loops over characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Starts = npt.NDArray[np.int64]

# Arithmetic signs are kept, because 3+2 and 3*2 are different questions.
_FORM = re.compile(r"[^\w+*/=<>%-]|_")


def normalize(text: str) -> str:
    """Normalize to NFKC, as the tokenizers of the T5 family do: full-width forms become plain ones."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


@lru_cache(maxsize=65_536)  # several checks normalize the same texts
def strip_marks(text: str) -> str:
    """Remove what may differ between two copies of a text: width, case, punctuation, white space."""
    return _FORM.sub("", normalize(text).casefold())


def code_points(texts: Sequence[str]) -> tuple[Codes, Starts]:
    """Return the code points of all texts, joined, and where each text begins and the last one ends."""
    joined = "".join(texts).encode("utf-32-le", errors="surrogatepass")
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    return np.frombuffer(joined, dtype="<u4"), np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def count_marked(marked: npt.NDArray[np.bool_], starts: Starts) -> npt.NDArray[np.int64]:
    """Count the characters of each text for which `marked` is true."""
    sums: npt.NDArray[np.int64] = np.concatenate([np.zeros(1, np.int64), np.cumsum(marked, dtype=np.int64)])
    counts: npt.NDArray[np.int64] = sums[starts[1:]] - sums[starts[:-1]]
    return counts
