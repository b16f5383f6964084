"""Attaching and dropping adapters: what is refused, what a fresh one is, what neighbours cannot change."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.linear import BankLinear
from loraloom.base.loading import Base
from loraloom.errors import AdapterError, TargetError
from loraloom.recipe import LoraSettings
from tests.parity.rig import attach_speaking, speaking_tensors


def test_a_fresh_adapter_starts_as_pefts_does(mt5: Base) -> None:
    """A uniform within ±1/√in, B zero."""
    bank = AdapterBank(mt5)
    bank.attach("a", LoraSettings(r=64, target_modules=["wo", "q"]), seed=1)
    for part in bank.parts("a").values():
        bound = part.A.shape[1] ** -0.5
        assert not part.B.any()
        assert 0.95 * bound < part.A.abs().max().item() <= bound
        assert abs(part.A.mean().item()) < 6 * bound / (3 * part.A.numel()) ** 0.5
        assert part.A.dtype == part.B.dtype == torch.float32
    assert len({part.A.flatten()[0].item() for part in bank.parts("a").values()}) == len(bank.parts("a"))


def test_a_fresh_adapter_is_a_function_of_seed_and_module_alone(mt5: Base) -> None:
    def initial(seed: int, neighbours: int, **lora: Any) -> dict[str, torch.Tensor]:
        bank = AdapterBank(mt5)
        for number in range(neighbours):
            bank.attach(f"n{number}", LoraSettings(r=2 + number), seed=number)
        torch.rand(neighbours)  # whatever happened to torch's own generator before
        bank.attach("a", LoraSettings(r=4, **lora), seed=seed)
        tensors = {name: tensor.clone() for name, tensor in bank.tensors("a").items()}
        for slot in bank.slots:
            bank.drop(slot)
        return tensors

    alone = initial(1, 0)
    for other in (initial(1, 3), initial(1, 1, target_modules=["v", "q"])):
        assert all(torch.equal(tensor, alone[name]) for name, tensor in other.items())
    assert any(not torch.equal(tensor, alone[name]) for name, tensor in initial(2, 0).items())


def test_dropping_shrinks_the_bank_to_what_is_still_targeted(mt5: Base) -> None:
    bank = AdapterBank(mt5)

    def wrapped() -> set[str]:
        return {name for name, m in mt5.model.named_modules() if isinstance(m, BankLinear)}

    bank.attach("wide", LoraSettings(r=2), seed=1)
    bank.attach("narrow", LoraSettings(r=2, target_modules=["q"]), seed=1)
    assert wrapped() == {target.name for target in bank.available}
    bank.drop("wide")
    assert wrapped() == set(bank.parts("narrow"))
    assert bank.slots == ("narrow",)
    bank.drop("narrow")
    assert wrapped() == set()


def test_the_order_of_an_adapters_tensors_does_not_show_who_came_before(mt5: Base) -> None:
    """A gradient's norm is summed in this order: after a resume without the neighbour, to the same bits."""
    bank = AdapterBank(mt5)
    bank.attach("first", LoraSettings(r=2, target_modules=["wo", "v"]), seed=1)
    bank.attach("a", LoraSettings(r=2), seed=1)
    bank.drop("first")
    order = list(bank.tensors("a"))
    bank.drop("a")
    bank.attach("a", LoraSettings(r=2), seed=1)
    assert list(bank.tensors("a")) == order
    assert len(bank.parameters("a")) == len(order)
    pairs = zip(bank.parameters("a"), bank.tensors("a").values(), strict=True)
    assert all(parameter.data_ptr() == tensor.data_ptr() for parameter, tensor in pairs)


def test_a_wrapped_linear_can_be_targeted_again(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    bank.attach("a", LoraSettings(r=2), seed=1)
    names = {target.name for target in bank.targets_of(LoraSettings(target_modules=["cross:k", "wo"]))}
    assert names == {n for n in bank.parts("a") if n.endswith(("EncDecAttention.k", ".wo"))}
    bank.attach("b", LoraSettings(r=2), seed=1)
    assert not any(name.endswith(".base") for name in bank.parts("b"))


def test_a_target_that_matches_nothing_attaches_nothing(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    with pytest.raises(TargetError):
        bank.attach("a", LoraSettings(target_modules=["q", "wi"]), seed=1)
    assert bank.slots == ()
    assert not any(isinstance(module, BankLinear) for module in mt5.model.modules())


SETTINGS = LoraSettings(r=3, target_modules=["q", "wo"])
DAMAGES: dict[str, tuple[Any, str]] = {
    "missing": (lambda t, n: t.pop(n), "lacks 1 tensors"),
    "surplus": (lambda t, n: t.update({"encoder.block.9.q.lora_A": t[n]}), "has 1 that do not belong"),
    "rank": (lambda t, n: t.update({n: torch.zeros(4, t[n].shape[1])}), "does not have the shape"),
    "width": (lambda t, n: t.update({n: torch.zeros(3, 5)}), "does not have the shape"),
    "nan": (lambda t, n: t[n].view(-1)[:1].fill_(torch.nan), "NaN or infinite"),
    "infinite": (lambda t, n: t[n].view(-1)[-1:].fill_(torch.inf), "NaN or infinite"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_tensors_that_are_not_those_of_the_targets_are_refused(mt5: Base, damage: str) -> None:
    bank = AdapterBank(mt5)
    tensors = speaking_tensors(bank, SETTINGS, seed=1)
    spoil, message = DAMAGES[damage]
    spoil(tensors, next(iter(tensors)))
    with pytest.raises(AdapterError, match=message):
        bank.attach("a", SETTINGS, seed=1, tensors=tensors)
    assert bank.slots == ()


def test_given_tensors_are_copied(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    tensors = speaking_tensors(bank, SETTINGS, seed=1)
    bank.attach("a", SETTINGS, seed=1, tensors=tensors)
    name = next(iter(tensors))
    before = tensors[name].clone()
    bank.tensors("a")[name].zero_()  # the live tensor
    assert torch.equal(tensors[name], before)
    assert not bank.parameters("a")[list(bank.tensors("a")).index(name)].any()


def test_load_overwrites_and_refuses_other_tensors(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    attach_speaking(bank, "a", seed=1, r=3, target_modules=["q", "wo"])
    others = speaking_tensors(bank, SETTINGS, seed=2)
    bank.load("a", others)
    assert all(torch.equal(tensor, others[name]) for name, tensor in bank.tensors("a").items())
    before = {name: tensor.clone() for name, tensor in bank.tensors("a").items()}
    name = list(others)[-1]
    # A row by itself could be repeated.
    smaller = {key: tensor * 2 for key, tensor in others.items()} | {name: others[name][:1]}
    with pytest.raises(AdapterError, match="does not have the shape"):
        bank.load("a", smaller)
    others.pop(name)
    with pytest.raises(AdapterError, match="do not belong"):
        bank.load("a", others)
    assert all(torch.equal(tensor, before[name]) for name, tensor in bank.tensors("a").items())
