"""Each variant of LoRA in the bank: what it adds is what it moves, merges and is predicted to weigh."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.merging import merge_adapter
from loraloom.bank.objective import hidden_states
from loraloom.bank.wide_products import WideProducts
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows
from loraloom.errors import ModelError
from loraloom.evaluate.movement import movement, movement_of_tensors
from loraloom.forecast.footprint import Counter
from tests.families import TWO_KINDS
from tests.parity.rig import attach_speaking, batch_of, experiment, random_rows
from tests.parity.variants import VARIANTS

ROWS = list(random_rows(4))
# They concern the biases of linears, which only one of the two families has.
OF_BOTH = ("dora", "dora-undropped", "bias")
CASES = [(kind, name) for kind in TWO_KINDS for name in VARIANTS if kind == "mt5" or name in OF_BOTH]


def lora_of(name: str, **changes: Any) -> dict[str, Any]:
    return {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, **VARIANTS[name], **changes}


@torch.no_grad()
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_it_adds_is_what_it_moves_and_merges(base: Base, name: str) -> None:
    bank = AdapterBank(base)
    settings = attach_speaking(bank, "own", seed=1, **lora_of(name))
    batch = batch_of(base, {None: ROWS}, packing=False)
    with bank.rows(IndexedRows(("own", None, "own", None))):
        mixed = hidden_states(base, batch)
    with bank.rows(Rows(("own",), (4,))):
        adapted = hidden_states(base, batch)
    plain = hidden_states(base, batch)
    torch.testing.assert_close(mixed[::2], adapted[::2])
    torch.testing.assert_close(mixed[1::2], plain[1::2])
    assert float((adapted - plain).abs().max()) > 1e-2
    parts = bank.parts("own")
    linears = {target.name: target.linear for target in bank.available if target.name in parts}
    for part_name, part in parts.items():
        delta = part.delta(linears[part_name])
        bias = part.delta_bias()
        norms = [float(each.norm()) for each in (delta, bias) if each is not None]
        assert part.delta_norm(linears[part_name]) == pytest.approx(math.hypot(*norms), rel=1e-5)
    moved = movement(bank, "own")
    assert moved.total > 0.1
    assert movement_of_tensors(bank, bank.tensors("own"), settings) == moved
    if settings.lora_bias and any(linear.bias is None for linear in linears.values()):
        with pytest.raises(
            ModelError, match=r"adds biases .* to \d+ linears that have none.*cannot be merged"
        ):
            merge_adapter(bank, "own")
        bank.drop("own")
        return
    originals = [(parameter, parameter.clone()) for parameter in base.model.parameters()]
    try:
        assert merge_adapter(bank, "own").largest_error < 4
        torch.testing.assert_close(hidden_states(base, batch), adapted, rtol=1e-4, atol=1e-4)
    finally:
        for parameter, original in originals:
            parameter.copy_(original)


@pytest.mark.parametrize("name", VARIANTS)
def test_its_weights_are_counted_before_it_is_attached(mt5: Base, name: str) -> None:
    bank = AdapterBank(mt5)
    each = experiment("own", lora=lora_of(name))
    counter = Counter(bank, random_rows(3))
    weights, trained = counter.num_weights(each), counter.num_trained(each)
    in_training, in_checkpoint = counter.training_bytes(each), counter.checkpoint_bytes(each)
    bank.attach("own", each.lora, seed=1)
    assert weights == sum(parameter.numel() for parameter in bank.parameters("own"))
    assert trained == sum(p.numel() for p in bank.parameters("own") if p.requires_grad)
    assert in_training == 4 * (weights + 3 * trained)
    assert in_checkpoint == 4 * (2 * weights + 2 * trained)
    bank.drop("own")


def test_serving_lays_out_low_rank_products_only(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    attach_speaking(bank, "plain", seed=1, r=2)
    assert WideProducts(bank).is_worthwhile
    attach_speaking(bank, "dora", seed=1, **lora_of("dora"))
    assert not WideProducts(bank).is_worthwhile
    for slot in bank.slots:
        bank.drop(slot)
