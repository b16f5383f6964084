"""How often the rows of each pair of languages are seen in an epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from loraloom.data.languages.balance import balanced, repeated_size

PAIRS = {"de-en": range(100), "fr-en": range(100, 110), "ja-en": range(110, 113)}


def test_temperature_1_repeats_nothing() -> None:
    assert balanced(PAIRS, 1, seed=1).tolist() == list(range(113))


@pytest.mark.parametrize(
    ("temperature", "sizes"), [(2, (100, 32, 17)), (5, (100, 63, 50)), (100, (100, 98, 97))]
)
def test_a_pair_has_its_share_and_each_of_its_rows_as_often_but_for_one(
    temperature: float, sizes: tuple[int, ...]
) -> None:
    """n^(1/T) beside the largest pair: Arivazhagan et al., 2019."""
    seen = Counter(balanced(PAIRS, temperature, seed=1).tolist())
    for rows, size in zip(PAIRS.values(), sizes, strict=True):
        own = [seen[row] for row in rows]
        assert sum(own) == size == repeated_size(len(rows), 100, temperature)
        assert min(own) >= 1
        assert max(own) - min(own) <= 1


def test_the_seed_alone_decides_which_rows_have_one_more() -> None:
    assert np.array_equal(balanced(PAIRS, 5, seed=1), balanced(dict(reversed(PAIRS.items())), 5, seed=1))
    assert not np.array_equal(balanced(PAIRS, 5, seed=1), balanced(PAIRS, 5, seed=2))
