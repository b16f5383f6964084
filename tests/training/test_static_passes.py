"""Passes of fixed shapes give the losses and gradients of plain ones, with dropout, padding, neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.fused import hashed
from loraloom.bank.fused.fused_pass import ordinals_of
from loraloom.bank.objective import span_losses
from loraloom.base.loading import Base
from loraloom.base.targets import linears
from loraloom.data.batches import Batch, Side
from loraloom.data.encoding import EncodedExample
from loraloom.data.ownership import DrawnSlice, Draws, Rows, training_rows
from loraloom.recipe import TrainingSettings
from loraloom.training import engine
from loraloom.training.optimizer import (
    AdapterAdamW,
    optimizer_tensors,
    start_optimizer,
)
from loraloom.training.setup import Setup
from loraloom.training.static_passes import PassInputs, StaticPasses, rounded_width
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    experiment,
    gradients,
    random_rows,
    speaking_tensors,
    train_all,
)

# A softmax over one key has no gradient, and what rounding leaves of it cannot be compared.
ROWS = [row for row in random_rows(40, seed=3, target_len=4) if len(row.input_ids) > 2][:9]
DROPPING = {"one": 0.0, "two": 0.0, "three": 0.3, "four": 0.5}


@dataclass(frozen=True)
class HashedDraws(Draws):
    """The plain pass's random numbers, drawn as a static pass draws them."""

    batch: Batch | None = None

    def kept(
        self, slot: str, module: str, side: Side, p: float, shape: torch.Size, device: torch.device
    ) -> Tensor:
        assert self.batch is not None
        firsts = [
            sum(self.slices[own].lengths[side][: self.slices[own].first]) if own in self.slices else 0
            for own in self.batch.slots
            if own is not None
        ]
        ordinals = ordinals_of(self.batch, side, shape[1], firsts)
        start = dict(zip(self.batch.slots, self._starts, strict=True))[slot]
        own = ordinals[start : start + shape[0]].reshape(1, -1)
        seeds = torch.tensor([hashed.pass_seed(self, slot)], dtype=torch.int32)
        thresholds = torch.tensor([hashed.threshold(p)], dtype=torch.int32)
        return hashed.kept(own, seeds, hashed.module_salt(module), thresholds, shape[2]).view(shape)

    @property
    def _starts(self) -> list[int]:
        assert self.batch is not None
        return [sum(self.batch.num_rows[:number]) for number in range(len(self.batch.num_rows))]


def bank_of(base: Base) -> AdapterBank:
    """Four adapters of which the first two, and the last two, fit in one stack."""
    bank = AdapterBank(base)
    for number, (slot, dropout) in enumerate(DROPPING.items()):
        targets = ["q", "v", "wo"] if number > 1 else "all-linear"
        attach_speaking(
            bank, slot, seed=number, r=4 + number // 2, lora_alpha=8 + number, lora_dropout=dropout,
            target_modules=targets,
        )  # fmt: skip
    return bank


def batch_for(base: Base) -> Batch:
    slots: dict[str | None, list[EncodedExample]] = {
        "one": ROWS[:3], "two": ROWS[3:6], "three": ROWS[2:5], "four": ROWS[6:9]
    }  # fmt: skip
    return batch_of(base, slots, packing=False, min_width=(16, 16))


def rows_of(batch: Batch, slices: dict[str, DrawnSlice]) -> Rows:
    slots = list(DROPPING)
    seeds = {slot: 7 + number for number, slot in enumerate(slots)}
    return training_rows(batch, seeds=seeds, steps=dict.fromkeys(slots, 3), micro_batch=1, slices=slices)


def plain(bank: AdapterBank, batch: Batch, rows: Rows, per_label: list[float]) -> list[float]:
    draws = rows.draws
    assert draws is not None
    own = HashedDraws(draws.seeds, draws.steps, draws.micro_batch, draws.segments, draws.slices, batch=batch)
    with bank.rows(Rows(rows.slots, rows.num_rows, draws=own)):
        losses = span_losses(bank.base, batch) * torch.tensor(per_label)
        losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.tolist()


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_static_pass_equals_the_plain_one(base: Base, is_cut: bool) -> None:
    if any(len(target.sides) > 1 for target in linears(base.model, base.family)):
        pytest.skip("no pass is static in which a linear is used twice")
    bank, batch = bank_of(base), batch_for(base)
    sources = [5, 9, *(len(row.input_ids) for row in ROWS[6:9])]
    lengths: dict[Side, list[int]] = {"source": sources, "target": [4] * 5}
    rows = rows_of(batch, {"four": DrawnSlice(2, lengths)} if is_cut else {})
    per_label = [1 / number for number in batch.num_labels]
    expected = plain(bank, batch, rows, per_label)
    wanted = {slot: gradients(bank, slot) for slot in DROPPING}
    for slot in DROPPING:
        for parameter in bank.parameters(slot):
            parameter.grad = None
    passes = StaticPasses(bank, records=False)
    for _ in range(2):  # of which the second finds the first's shape
        losses = passes.losses(passes.stage(0, PassInputs(batch, rows, per_label)), ["owner"] * 4)
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    for slot in DROPPING:
        own = {name: gradient / 2 for name, gradient in gradients(bank, slot).items()}
        assert_same_gradients(own, wanted[slot])


def test_dropout_is_there(mt5: Base) -> None:
    """The premise of the test above: another step draws others, and adapters without any do not."""
    bank, batch = bank_of(mt5), batch_for(mt5)
    passes, rows = StaticPasses(bank, records=False), rows_of(batch, {})
    assert rows.draws is not None
    first = passes.losses(passes.stage(0, PassInputs(batch, rows, [1.0] * 4)), ["owner"] * 4).tolist()
    steps = {slot: step + 1 for slot, step in rows.draws.steps.items()}
    own = Draws(rows.draws.seeds, steps, 1, rows.draws.segments)
    later = Rows(rows.slots, rows.num_rows, draws=own)
    second = passes.losses(passes.stage(1, PassInputs(batch, later, [1.0] * 4)), ["owner"] * 4).tolist()
    assert second[:2] == first[:2]
    assert all(abs(a - b) > 1e-4 for a, b in zip(first[2:], second[2:], strict=True))


def test_widths_are_few() -> None:
    assert [rounded_width(length) for length in (1, 8, 9, 30, 33, 100, 129)] == [2, 8, 10, 30, 36, 104, 144]


@pytest.mark.parametrize("batch_size", [2, 3])
def test_training_by_static_passes_and_flat_optimizers_equals_training(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    lora = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
    experiments = [
        experiment(
            name, lora=lora, seed=seed, max_steps=4, per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=2, learning_rate=1e-3 * seed, max_grad_norm=0.5 * seed,
        )
        for seed, name in enumerate(("a", "b"), start=1)
    ]  # fmt: skip
    train_set = random_rows(11, seed=5)
    expected = train_all(mt5, experiments, train_set, tmp_path / "plain")
    monkeypatch.setattr(
        engine,
        "make_optimizer",
        lambda parameters, settings: AdapterAdamW(parameters, settings, True),
    )
    monkeypatch.setattr(Setup, "waits_once", property(lambda setup: True))
    passes: dict[int, StaticPasses] = {}
    monkeypatch.setattr(
        Setup,
        "static_passes",
        property(lambda setup: passes.setdefault(id(setup), StaticPasses(setup.bank, records=False))),
    )
    found = train_all(mt5, experiments, train_set, tmp_path / "static")
    for name in ("a", "b"):
        assert found.losses(name) == pytest.approx(expected.losses(name), rel=1e-4)
        assert_same_gradients(found.adapter(name), expected.adapter(name), 1e-3)


@pytest.mark.parametrize("is_flat", [False, True])
def test_a_flat_optimizer_keeps_and_takes_its_state_as_a_plain_one(mt5: Base, is_flat: bool) -> None:
    bank = AdapterBank(mt5)
    attach_speaking(bank, "a", seed=1, r=4)
    settings = TrainingSettings(learning_rate=1e-2, weight_decay=0.1)
    names = [name for _, named in bank.parameter_groups("a") for name in named]
    found = {}
    for first, second in ((False, False), (is_flat, not is_flat)):
        bank.load("a", speaking_tensors(bank, bank.settings("a"), seed=1))
        tensors: dict[str, Tensor] = {}
        for flat in (first, second):
            optimizer = AdapterAdamW(bank.parameter_groups("a"), settings, flat)
            start_optimizer(optimizer, names, tensors)
            for number, parameter in enumerate(bank.parameters("a")):
                assert parameter.grad is not None
                parameter.grad.fill_(0.1 + 0.01 * number)
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * group["rate_factor"]
            optimizer.step()
            tensors = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, names).items()}
        found[first, second] = {**tensors, **{n: t.clone() for n, t in bank.tensors("a").items()}}
    expected, own = found[False, False], found[is_flat, not is_flat]
    assert expected.keys() == own.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(own[name], tensor, rtol=1e-6, atol=1e-8)
