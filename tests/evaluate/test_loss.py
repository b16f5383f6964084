"""eval_loss weighs every token alike, whoever else is evaluated and however rows are laid out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.base.frozen_linear import frozen_linear
from loraloom.base.loading import Base
from loraloom.evaluate.loss import eval_losses, row_losses
from tests.parity.rig import attach_speaking, random_rows, stock_model, unwrap

ROWS = random_rows(9, seed=11)
ADAPTER: dict[str, Any] = {"seed": 1, "r": 3, "lora_dropout": 0.5}  # no dropout in evaluation


def test_the_premise_that_rows_weigh_differently() -> None:
    lengths = ROWS.target_lengths
    assert lengths.min() == 1
    assert lengths.max() >= 8


def independent(model: Any) -> list[float]:
    """The summed loss of each row, alone, by the stock model and torch's cross_entropy."""
    losses = []
    for row in ROWS:
        labels = torch.from_numpy(row.labels).long()
        with torch.no_grad():
            logits = model(
                input_ids=torch.from_numpy(row.input_ids).long()[None], labels=labels[None]
            ).logits[0]
        losses.append(float(F.cross_entropy(logits, labels, reduction="sum")))
    return losses


@pytest.fixture(scope="module")
def independent_losses(
    loaded: Callable[[str], Base], tiny: Callable[[str], Path]
) -> Callable[[str], dict[str | None, list[float]]]:
    """What each kind loses without and with the adapter `a`, computed once."""

    @functools.cache
    def of_kind(kind: str) -> dict[str | None, list[float]]:
        model = stock_model(tiny(kind))
        bank = AdapterBank(loaded(kind))
        attach_speaking(bank, "a", **ADAPTER)
        losses: dict[str | None, list[float]] = {None: independent(model)}
        with torch.no_grad():
            for name, part in bank.parts("a").items():
                model.get_submodule(name).weight += part.delta(frozen_linear(model.get_submodule(name)))
        losses["a"] = independent(model)
        unwrap(loaded(kind))
        return losses

    return of_kind


@pytest.mark.parametrize(("batch_size", "packing"), [(1, True), (4, True), (4, False), (99, True)])
def test_it_equals_an_independent_computation(
    base: Base,
    kind: str,
    independent_losses: Callable[[str], dict[str | None, list[float]]],
    batch_size: int,
    packing: bool,
) -> None:
    expected = independent_losses(kind)
    bank = AdapterBank(base)
    attach_speaking(bank, "a", **ADAPTER)
    slots = ["a", None, "a"]
    rows = row_losses(bank, slots, ROWS, batch_size=batch_size, packing=packing)
    for own, slot in zip(rows, slots, strict=True):
        assert own.tolist() == pytest.approx(expected[slot], rel=1e-5)
    losses = eval_losses(bank, ["a", None], ROWS, batch_size=batch_size, packing=packing)
    num_labels = sum(len(row.labels) for row in ROWS)
    for slot, total in expected.items():
        assert losses[slot] == pytest.approx(sum(total) / num_labels, rel=1e-5)
        by_row = sum(t / len(row.labels) for t, row in zip(total, ROWS, strict=True)) / len(ROWS)
        assert losses[slot] != pytest.approx(by_row, rel=1e-4)  # a mean of rows would be another figure
    bank.drop("a")


def test_nobody_needs_a_gradient_and_rows_are_counted(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    attach_speaking(bank, "a", seed=1, r=3)
    seen: list[int] = []
    row_losses(bank, ["a"], ROWS, batch_size=4, on_rows=seen.append)
    assert seen == [4, 8, 9]
    assert all(parameter.grad is None for parameter in bank.parameters("a"))
    assert bank.current_pass is None
    assert any(isinstance(module, BankLinear) for module in mt5.model.modules())
