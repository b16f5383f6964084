"""Balance of language pairs: how often each training row is seen in an epoch.

Arivazhagan et al., 2019 (https://arxiv.org/abs/1907.05019) draw a pair of n rows with probability
proportional to n^(1/T). Here every row is seen in every epoch, and nothing is drawn anew for each epoch: if
the largest pair has N rows, an epoch contains N · (n/N)^(1/T) rows of a pair of n rows, and the numbers of
repetitions of any two rows of a pair differ by at most 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


def balanced(
    pairs: Mapping[str, Sequence[int] | npt.NDArray[np.intp]], temperature: float, seed: int
) -> npt.NDArray[np.int64]:
    """Return the indices of the rows of an epoch, in which the rows of small pairs are repeated.

    Args:
        pairs: name of a pair → indices of its rows.
        temperature: T; with 1, no row is repeated.
        seed: determines which rows of a pair are repeated one time more than the rest of the pair.

    Returns:
        Every index at least once, in ascending order.
    """
    most = max(map(len, pairs.values()))
    chosen: list[npt.NDArray[np.int64]] = []
    for name, numbers in sorted(pairs.items()):
        rows = np.asarray(numbers, np.int64)
        wanted = repeated_size(len(rows), most, temperature)
        whole, rest = divmod(wanted, len(rows))
        generator = np.random.default_rng([seed, *name.encode()])
        chosen += [np.tile(rows, whole), rows[generator.permutation(len(rows))[:rest]]]
    return np.sort(np.concatenate(chosen))


def repeated_size(num_rows: int, most: int, temperature: float) -> int:
    """Return how many rows of a pair an epoch contains, repetitions included.

    Args:
        num_rows: number of rows of the pair.
        most: number of rows of the largest pair.
        temperature: as in `balanced`.
    """
    return max(num_rows, round(float(most * (num_rows / most) ** (1 / temperature))))
