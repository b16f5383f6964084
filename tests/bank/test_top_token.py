"""The screen chooses the token that all logits choose, and what it says of its error holds."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import pytest
import torch
from torch import Tensor

from loraloom.bank import top_token as module
from loraloom.bank.top_token import AllLogits, Screen, screens_exactly, top_token
from loraloom.base.loading import Base
from loraloom.kernels.output_head import OutputHead

pytestmark = pytest.mark.skipif(not screens_exactly(), reason="this CPU adds products of int8 in 16 bits")
WIDTH = 48


def head(words: int, dtype: torch.dtype = torch.float32, *, seed: int = 0, **options: object) -> OutputHead:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(words, WIDTH, generator=generator) * WIDTH**-0.5
    return OutputHead(weight.to(dtype), **options)  # type: ignore[arg-type]


def states(rows: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    return (torch.randn(rows, WIDTH, generator=torch.Generator().manual_seed(seed)) * 3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("words", [1, 100, 128, 1_000, 40_001])
def test_the_same_token(words: int, dtype: torch.dtype) -> None:
    own, hidden = head(words, dtype), states(50, dtype)
    assert Screen(own).of(hidden).tolist() == AllLogits(own).of(hidden).tolist()


def test_with_what_families_do_around_the_head() -> None:
    bias = torch.randn(5_000, generator=torch.Generator().manual_seed(2))
    hidden = states(50)
    for options in ({"bias": bias}, {"softcap": 3.0}, {"scale": 0.25}, {"bias": bias, "softcap": 30.0}):
        own = head(5_000, **options)
        assert Screen(own).of(hidden).tolist() == AllLogits(own).of(hidden).tolist(), options


def test_words_of_very_different_lengths() -> None:
    lengths = torch.logspace(-3, 3, 5_000)[torch.randperm(5_000, generator=torch.Generator().manual_seed(3))]
    own = OutputHead(head(5_000).weight * lengths[:, None])
    hidden = states(50)
    assert Screen(own).of(hidden).tolist() == AllLogits(own).of(hidden).tolist()


def test_the_first_of_equal_words() -> None:
    own = head(2_000)
    own.weight[1_000:] = own.weight[:1_000].clone()
    hidden = states(50)
    expected = AllLogits(own).of(hidden)
    assert bool((expected < 1_000).all())
    assert Screen(own).of(hidden).tolist() == expected.tolist()


def test_states_and_words_of_zeros() -> None:
    own = head(500)
    own.weight[3] = 0
    hidden = torch.cat([torch.zeros(1, WIDTH), -own.weight[:1] * 100])
    assert Screen(own).of(hidden).tolist() == AllLogits(own).of(hidden).tolist()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("rows", [1, 3])
def test_states_that_are_not_finite(value: float, rows: int) -> None:
    own, hidden = head(500), states(rows)
    hidden[0] = value
    assert Screen(own).of(hidden).tolist() == AllLogits(own).of(hidden).tolist()


def test_without_its_error_it_would_choose_other_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The premise of the tests here: int8 alone is not enough."""
    monkeypatch.setattr(Screen, "_error", lambda self, states, loss, peaks: torch.zeros_like(peaks))
    own, hidden = head(5_000), states(400)
    assert Screen(own).of(hidden).tolist() != AllLogits(own).of(hidden).tolist()


def test_it_is_made_once_and_only_if_it_saves_time(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCREENS", WeakKeyDictionary())
    assert isinstance(top_token(mt5, 10**6), AllLogits)  # a small head
    monkeypatch.setattr(module, "MIN_WEIGHTS", 0)
    assert isinstance(top_token(mt5, 10), AllLogits)
    screen = top_token(mt5, 10**6)
    assert isinstance(screen, Screen)
    assert top_token(mt5, 10) is screen
    with torch.no_grad():
        mt5.head.weight.mul_(1.0)  # another version, so another screen
    assert top_token(mt5, 10**6) is not screen


def test_it_is_not_made_if_memory_is_short(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCREENS", WeakKeyDictionary())
    monkeypatch.setattr(module, "MIN_WEIGHTS", 1)
    needed = module.screen_bytes(mt5, 10**6)
    monkeypatch.setattr(module, "free_bytes", lambda device: 2 * needed - 1)
    assert isinstance(top_token(mt5, 10**6), AllLogits)
    monkeypatch.setattr(module, "free_bytes", lambda device: 2 * needed)
    assert isinstance(top_token(mt5, 10**6), Screen)
