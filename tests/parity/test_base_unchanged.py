"""Where no adapter says anything, the base is what it was; where one does, its matrix is W + ΔW."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.bank.objective import hidden_states, output_head, span_losses
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows
from loraloom.kernels.output_head import all_logits
from loraloom.recipe import LoraSettings
from tests.parity.rig import attach_speaking, batch_of, losses_and_gradients, random_rows


@pytest.fixture(params=[True, False], ids=["packed", "padded"])
def packing(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@torch.no_grad()
def test_a_fresh_adapter_leaves_states_and_logits_bit_for_bit(base: Base, packing: bool) -> None:
    rows = list(random_rows(6))
    batch = batch_of(base, {None: rows}, packing=packing)
    expected = hidden_states(base, batch)
    bank = AdapterBank(base)
    bank.attach("fresh", LoraSettings(r=4, lora_dropout=0.0), seed=1)
    adapted = batch_of(base, {"fresh": rows}, packing=packing)
    with bank.rows(Rows(adapted.slots, adapted.num_rows)):
        states = hidden_states(base, adapted)
    assert torch.equal(states, expected)
    assert torch.equal(
        all_logits(output_head(bank.base), states), all_logits(output_head(bank.base), expected)
    )


@torch.no_grad()
def test_rows_of_the_base_are_the_bases_whatever_lies_beside_them(base: Base, packing: bool) -> None:
    rows = list(random_rows(6))
    expected = hidden_states(base, batch_of(base, {None: rows}, packing=packing))
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4)
    attach_speaking(bank, "b", seed=2, r=3, target_modules=["q", "wo"])
    batch = batch_of(base, {"a": rows, None: rows, "b": rows}, packing=packing)
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        a, own, b = hidden_states(base, batch).split(batch.num_rows)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-5)
    assert float((a - expected).abs().max()) > 1e-2  # the neighbours do speak
    assert float((b - expected).abs().max()) > 1e-2


@torch.no_grad()
def test_outside_of_rows_and_after_a_drop_the_base_is_itself(base: Base) -> None:
    batch = batch_of(base, {None: list(random_rows(6))})
    before, expected = dict(base.model.named_modules()), hidden_states(base, batch)
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4)
    assert torch.equal(hidden_states(base, batch), expected)
    bank.drop("a")
    assert dict(base.model.named_modules()) == before
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        assert torch.equal(hidden_states(base, batch), expected)


def test_the_base_gets_no_gradient_and_does_not_change(base: Base) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4)
    losses_and_gradients(bank, batch_of(base, {"a": list(random_rows(6))}))
    bank.drop("a")
    assert all(parameter.grad is None for parameter in base.model.parameters())
    after = base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


@pytest.mark.parametrize("slots", [("a",), ("a", "b", "c", None)], ids=["one", "several"])
def test_every_frozen_linear_runs_once_a_pass_however_many_adapters_there_are(
    base: Base, slots: tuple[str | None, ...]
) -> None:
    bank = AdapterBank(base)
    for number, slot in enumerate(s for s in slots if s is not None):
        attach_speaking(bank, slot, seed=number, r=2 + 3 * number, lora_dropout=0.1)
    calls: Counter[str] = Counter()
    wrapped = {name: m for name, m in base.model.named_modules() if isinstance(m, BankLinear)}
    assert len(wrapped) == len(bank.available)
    names = {module.base.weight.data_ptr(): name for name, module in wrapped.items()}

    class Products(TorchDispatchMode):
        """Counts products with the weights of linears on the way forward, whoever computes them."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
                right = args[-1]
                is_transposed = right.stride(0) == 1  # W itself is a factor of the backward pass
                if is_transposed and right.data_ptr() in names:
                    calls.update([names[right.data_ptr()]])
            return func(*args, **(kwargs or {}))

    rows = list(random_rows(5))
    batch = batch_of(base, dict.fromkeys(slots, rows))
    with Products():
        if None in slots:
            with torch.no_grad(), bank.rows(Rows(batch.slots, batch.num_rows)):
                span_losses(base, batch)
        else:
            losses_and_gradients(bank, batch)
    assert set(calls) == set(wrapped)
    assert calls == {target.name: len(target.sides) for target in bank.available}


@torch.no_grad()
@pytest.mark.parametrize("use_rslora", [False, True])
def test_merging_adds_what_the_adapter_says(base: Base, use_rslora: bool) -> None:
    rows = list(random_rows(6))
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4, lora_alpha=12, use_rslora=use_rslora)
    batch = batch_of(base, {"a": rows})
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        expected = hidden_states(base, batch)
        losses = span_losses(base, batch)
    linears = {target.name: target.linear for target in bank.available}
    deltas = {name: part.delta(linears[name]) for name, part in bank.parts("a").items()}
    bank.drop("a")
    plain = batch_of(base, {None: rows})
    originals = {name: base.model.get_submodule(name).weight.clone() for name in deltas}
    try:
        for name, delta in deltas.items():
            base.model.get_submodule(name).weight.add_(delta)
        torch.testing.assert_close(hidden_states(base, plain), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(span_losses(base, plain), losses, rtol=1e-5, atol=0.0)
    finally:
        for name, original in originals.items():
            base.model.get_submodule(name).weight.copy_(original)
