"""Which lines of a batch stay when the answers of some have ended."""

from __future__ import annotations

import pytest

from loraloom.evaluate.row_decoding import staying_lines


def ended(*lines: int, of: int) -> list[bool]:
    return [line in lines for line in range(of)]


def test_models_keep_equally_many_lines() -> None:
    """Of "a" one stays whose answer has ended."""
    assert staying_lines(["a"] * 4 + ["b"] * 4, ended(0, 1, 4, of=8)) == [0, 2, 3, 5, 6, 7]


@pytest.mark.parametrize(
    ("lines", "staying"),
    [
        ((0, 1, 2, 3), [4, 5, 6, 7]),  # all of "a"
        ((0, 1, 2), [3, 4, 5, 6, 7]),  # three of "a" for four that are left of "b"
    ],
)
def test_only_lines_in_progress_stay_if_too_many_others_would(
    lines: tuple[int, ...], staying: list[int]
) -> None:
    assert staying_lines(["a"] * 4 + [None] * 4, ended(*lines, of=8)) == staying


def test_no_line_leaves_if_only_few_could() -> None:
    assert staying_lines([None] * 9, ended(3, of=9)) == list(range(9))
    assert staying_lines([None] * 8, ended(3, of=8)) == [0, 1, 2, 4, 5, 6, 7]
