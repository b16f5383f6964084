"""A kind of adapter is one object: a second one, written here, works beside LoRA in one bank and one pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from loraloom.bank import bank as bank_module
from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.merging import merge_adapter
from loraloom.bank.objective import hidden_states
from loraloom.bank.updates.kinds import LORA
from loraloom.bank.updates.update import Copies, Draw, ParameterGroup, Span, UpdateKind
from loraloom.base.frozen_linear import FrozenLinear, PlainLinear
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows, seed_for
from loraloom.evaluate import movement as movement_module
from loraloom.evaluate.movement import movement
from loraloom.recipe import LoraSettings
from loraloom.training.optimizer import make_optimizer
from tests.parity.rig import (
    attach_speaking,
    batch_of,
    experiment,
    losses_and_gradients,
    random_rows,
    train_all,
)

RATE_FACTOR = 4.0


class OutputScale:
    """ΔW = diag(g) W: every output is scaled by 1 + g, as (IA)³ does."""

    def __init__(self, gain: nn.Parameter) -> None:
        self.gain = gain

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return {"gain": self.gain}

    def delta(self, linear: FrozenLinear) -> Tensor:
        return self.gain.detach()[:, None] * linear.dense().float()

    def delta_times(self, linear: FrozenLinear, vectors: Tensor) -> Tensor:
        return self.gain.detach().double()[:, None] * (linear.dense().double() @ vectors)

    def delta_norm(self, linear: FrozenLinear) -> float:
        return float(self.delta(linear).norm())

    def norm_bound(self) -> float:
        return float(self.gain.detach().norm())

    def delta_bias(self) -> None:
        return None


class OutputScaleStack:
    """Adapter by adapter."""

    def __init__(self, updates: Mapping[str, OutputScale]) -> None:
        self._updates = updates
        self.signature = tuple(updates)

    def copies(self, owners: Collection[str], *, only_if_changed: bool) -> Copies:
        return [], []

    def group(self, spans: Sequence[Span]) -> list[Span]:
        return [span for span in spans if span.slot in self._updates]

    def add(
        self, linear: FrozenLinear, x: Tensor, y: Tensor | None, groups: Sequence[Span], draw: Draw | None
    ) -> Tensor:
        y = linear.product(x) if y is None else y
        gains = torch.zeros(len(y), 1, y.shape[-1])
        for slot, start, stop in groups:
            gains = gains.index_add(
                0, torch.arange(start, stop), self._updates[slot].gain.expand(stop - start, 1, -1)
            )
        return y + gains * y


class OutputScales:
    """The kind, whose gains learn four times as fast and do not decay."""

    tensor_names = ("gain",)

    def shapes(self, settings: LoraSettings, linear: FrozenLinear) -> dict[str, tuple[int, ...]]:
        return {"gain": (linear.out_features,)}

    def start(
        self, settings: LoraSettings, linear: FrozenLinear, seed: int, module: str
    ) -> dict[str, Tensor]:
        return {"gain": torch.zeros(linear.out_features)}

    def make(self, settings: LoraSettings, tensors: Mapping[str, nn.Parameter]) -> OutputScale:
        return OutputScale(tensors["gain"])

    def parameter_groups(self, settings: LoraSettings) -> Sequence[ParameterGroup]:
        return (ParameterGroup(("gain",), rate_factor=RATE_FACTOR, decays=False),)

    def gradient_change(self, parts: Mapping[str, Any]) -> None:
        return None

    def in_peft(
        self, settings: LoraSettings, tensors: Mapping[str, Tensor]
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        return settings, dict(tensors)

    def stack(self, updates: Mapping[str, OutputScale], dtype: torch.dtype) -> OutputScaleStack:
        return OutputScaleStack(updates)

    def is_kind_of(self, config: Mapping[str, Any]) -> bool:
        return config.get("peft_type") == "IA3"

    def peft_values(self, settings: LoraSettings) -> dict[str, Any]:
        return {"peft_type": "IA3"}

    def settings_of(self, config: Mapping[str, Any], target_modules: Sequence[str]) -> LoraSettings:
        return LoraSettings(target_modules=list(target_modules))


SCALES: UpdateKind = OutputScales()
# No setting of a recipe asks for it, so in this file an rsLoRA of rank 1 does.
WANTED = {"r": 1, "use_rslora": True}


@pytest.fixture(autouse=True)
def second_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind_of(settings: LoraSettings) -> UpdateKind:
        return SCALES if settings.use_rslora else LORA

    monkeypatch.setattr(bank_module, "kind_of", kind_of)
    monkeypatch.setattr(movement_module, "kind_of", kind_of)


def attach_gains(bank: AdapterBank, slot: str, seed: int) -> None:
    settings = LoraSettings(**WANTED, target_modules=["q", "wo"])
    generator = torch.Generator().manual_seed(seed_for(seed, "gains"))
    tensors = {
        f"{target.name}.gain": torch.rand(target.linear.out_features, generator=generator)
        for target in bank.targets_of(settings)
    }
    bank.attach(slot, settings, seed, tensors)


def test_two_kinds_share_a_pass_and_each_equals_itself_alone(mt5: Base) -> None:
    rows = list(random_rows(3, seed=5))

    def results(slots: Sequence[str]) -> Any:
        bank = AdapterBank(mt5)
        for slot in slots:
            if slot.startswith("gains"):
                attach_gains(bank, slot, seed=len(slot))
            else:
                attach_speaking(bank, slot, seed=len(slot), r=3, lora_dropout=0.3)
        found = losses_and_gradients(bank, batch_of(mt5, dict.fromkeys(slots, rows)))
        for slot in slots:
            bank.drop(slot)
        return found

    slots = ["lora", "gains", "lora-b", "gains-bb"]
    losses, gradients = results(slots)
    for slot in slots:
        alone, own = results([slot])
        assert losses[slot] == pytest.approx(alone[slot], rel=1e-5)
        for name, gradient in own[slot].items():
            torch.testing.assert_close(
                gradients[slot][name], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())
            )
    assert len({round(loss, 4) for loss in losses.values()}) == len(slots)


@torch.no_grad()
def test_its_delta_is_what_it_adds_moves_and_merges(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    attach_gains(bank, "gains", seed=1)
    batch = batch_of(mt5, {None: list(random_rows(4))}, packing=False)
    with bank.rows(IndexedRows(("gains", None, "gains", None))):
        mixed = hidden_states(mt5, batch)
    with bank.rows(Rows(("gains",), (4,))):
        adapted = hidden_states(mt5, batch)
    plain = hidden_states(mt5, batch)
    torch.testing.assert_close(mixed[::2], adapted[::2])
    torch.testing.assert_close(mixed[1::2], plain[1::2])
    assert movement(bank, "gains").total > 0.1
    originals = {name: mt5.model.get_submodule(f"{name}.base").weight.clone() for name in bank.parts("gains")}
    try:
        assert merge_adapter(bank, "gains").largest_error < 4
        torch.testing.assert_close(hidden_states(mt5, batch), adapted, rtol=1e-5, atol=1e-5)
    finally:
        for name, weight in originals.items():
            mt5.model.get_submodule(name).weight.copy_(weight)


def test_its_parameter_group_has_its_own_rate_and_decay(mt5: Base, tmp_path: Path) -> None:
    bank = AdapterBank(mt5)
    attach_gains(bank, "gains", seed=1)
    attach_speaking(bank, "lora", seed=2, r=2)
    settings = experiment("x", weight_decay=0.1).training
    rates = {}
    for slot in bank.slots:
        optimizer = make_optimizer(bank.parameter_groups(slot), settings)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * group["rate_factor"]
        (group,) = optimizer.param_groups
        num_weights = sum(tensor.numel() for tensor in bank.tensors(slot).values())
        assert sum(each.numel() for each in group["params"]) == num_weights
        rates[slot] = group["lr"], group["weight_decay"]
    assert rates == {"gains": (pytest.approx(4e-3), 0.0), "lora": (pytest.approx(1e-3), 0.1)}
    for slot in bank.slots:
        bank.drop(slot)
    both = [
        experiment(
            "gains", lora={**WANTED, "target_modules": ["wo"]}, max_steps=3, lr_scheduler_type="constant"
        ),
        experiment("lora", lora={"r": 2}, max_steps=3),
    ]
    trained = train_all(mt5, both, random_rows(6), tmp_path / "run")
    assert all(bool(tensor.any()) for tensor in trained.adapter("gains").values())


def test_a_plain_linear_is_read_as_it_is() -> None:
    module = nn.Linear(3, 2).requires_grad_(False)
    linear: FrozenLinear = PlainLinear(module)
    assert (linear.in_features, linear.out_features, linear.dtype) == (3, 2, torch.float32)
    assert linear.bias is module.bias
    assert linear.dense().data_ptr() == module.weight.data_ptr()
    assert linear.weight_norm() == pytest.approx(float(module.weight.norm()))
    before = module.weight.detach().clone()
    linear.add_(torch.ones(2, 3))
    torch.testing.assert_close(linear.dense(), before + 1)
