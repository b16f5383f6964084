"""Figures as people read them."""

from __future__ import annotations

import doctest

import pytest

from loraloom.text import units, visible


@pytest.mark.parametrize("module", [units, visible])
def test_examples_in_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1e-9, "1e−7 %"),
        (0.00034, "0.034 %"),
        (0.0004, "0.04 %"),
        (0.005, "0.5 %"),
        (0.0123, "1.2 %"),
        (0.036, "3.6 %"),
        (0.123, "12.3 %"),
        (0.5, "50 %"),
        (0.999, "99.9 %"),
        (0.99999, "above 99.9 %"),
        (1, "100 %"),
        (2.5, "250 %"),
        (-0.02, "−2 %"),
    ],
)
def test_shares_are_never_rounded_to_nothing_or_to_all(share: float, text: str) -> None:
    assert units.percent(share) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (None, "–"),
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (2048, "2.0 KiB"),
        (12 * 2**20, "12 MiB"),
        (1.25 * 2**30, "1.2 GiB"),
        (5000 * 2**40, "5000 TiB"),
    ],
)
def test_sizes(num_bytes: float | None, text: str) -> None:
    assert units.size(num_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text", "estimated"),
    [
        (0, "0 s", "1 s"),
        (0.14, "0.1 s", "1 s"),
        (9.96, "10 s", "10 s"),
        (59.6, "1 min", "1 min"),
        (723, "12 min 3 s", "12 min"),
        (3599.7, "1 h", "1 h"),
        (7823, "2 h 10 min", "2 h 10 min"),
        (90_000, "25 h", "25 h"),
    ],
)
def test_durations(seconds: float, text: str, estimated: str) -> None:
    assert units.duration(seconds) == text
    assert units.estimated_duration(seconds) == estimated


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (True, "true"),
        (8192, "8192"),
        (0.05, "0.05"),
        (1e-4, "1e-4"),
        (9.65e-7, "9.65e-7"),
        (["q", 1e-5], "q, 1e-5"),
    ],
)
def test_settings_can_be_copied_into_a_recipe(value: object, text: str) -> None:
    assert units.setting(value) == text


def test_a_figure_that_rounds_to_nothing_has_no_sign() -> None:
    assert [units.signed(value, 2) for value in (0.001, -0.001, 0.5, -0.5)] == [
        "0.00",
        "0.00",
        "+0.50",
        "−0.50",
    ]
    assert units.figure(None) == "–"
