"""A pass is its own thread's: banks beside each other in one process, and threads that have no pass."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states, span_losses
from loraloom.base.loading import Base, load_base
from loraloom.data.batches import Batch
from loraloom.data.ownership import Rows
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    experiment,
    gradients,
    random_rows,
    recomputing,
    train_all,
)

ROWS = random_rows(6, seed=3)
THREE = GenerationSettings(max_new_tokens=3)


@pytest.fixture
def bases(tiny: Callable[[str], Path]) -> list[Base]:
    """Two bases of two architectures, each loaded for this test alone."""
    return [load_base(str(tiny(kind)), dtype="float32", device="cpu") for kind in ("mt5", "t5")]


@pytest.fixture
def bank(mt5: Base) -> AdapterBank:
    bank = AdapterBank(mt5)
    for number, slot in enumerate("ab"):
        attach_speaking(bank, slot, seed=number, r=2, target_modules=["q", "wo"])
    return bank


def elsewhere(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def batch_for(base: Base) -> Batch:
    return batch_of(base, {None: list(random_rows(4))}, packing=False)


@torch.no_grad()
def states(base: Base) -> Tensor:
    return hidden_states(base, batch_for(base))


@torch.no_grad()
def states_of(bank: AdapterBank, slot: str | None) -> Tensor:
    with bank.rows(Rows((slot,), (4,))):
        return states(bank.base)


@pytest.mark.parametrize("recomputes", [False, True])
def test_two_banks_on_two_bases_train_in_two_threads_as_each_alone(
    bases: list[Base], tmp_path: Path, recomputes: bool
) -> None:
    """With dropout of the adapters and of the bases, two adapters each, evaluated on the way."""
    experiments = [
        experiment("a", lora={"r": 3, "lora_dropout": 0.2}, seed=1, max_steps=4),
        experiment(
            "b", lora={"r": 4, "target_modules": ["q", "v"]}, seed=2, max_steps=4, eval_strategy="epoch"
        ),
    ]
    together = threading.Barrier(2, timeout=60)

    def run(number: int, name: str, wait: bool) -> dict[str, dict[str, Tensor]]:
        if wait:
            together.wait()
        trained = train_all(
            bases[number],
            experiments,
            ROWS,
            tmp_path / f"{name}{number}",
            eval_set=ROWS,
            base_dropout=0.1,
            gradient_checkpointing=recomputes,
        )
        return {each.name: trained.adapter(each.name) for each in experiments}

    def one(number: int, name: str, wait: bool = False) -> dict[str, dict[str, Tensor]]:
        if not recomputes:
            return run(number, name, wait)
        with recomputing(bases[number]):
            return run(number, name, wait)

    alone = [one(number, "alone") for number in range(2)]
    with ThreadPoolExecutor(2) as threads:
        beside = list(threads.map(lambda number: one(number, "beside", wait=True), range(2)))
    for expected, actual in zip(alone, beside, strict=True):
        for name, tensors in expected.items():
            assert any(bool(tensor.any()) for key, tensor in tensors.items() if key.endswith("lora_B"))
            assert all(torch.equal(tensor, actual[name][key]) for key, tensor in tensors.items())


def test_two_banks_answer_in_two_threads_as_each_alone(bases: list[Base]) -> None:
    banks = [AdapterBank(base) for base in bases]
    for bank in banks:
        attach_speaking(bank, "a", seed=1, strength=0.5, r=3)
    sources = [row.input_ids.tolist() for row in ROWS]
    alone = [answer(bank, ["a", None], sources, THREE) for bank in banks]
    assert any(own["a"] != own[None] for own in alone)
    together = threading.Barrier(2, timeout=60)

    def work(bank: AdapterBank) -> list[Any]:
        together.wait()
        return [answer(bank, ["a", None], sources, THREE) for _ in range(5)]

    with ThreadPoolExecutor(2) as threads:
        for expected, found in zip(alone, threads.map(work, banks), strict=True):
            assert found == [expected] * 5


def test_passes_of_two_banks_nest_in_one_thread(bases: list[Base]) -> None:
    banks = [AdapterBank(base) for base in bases]
    for bank in banks:
        attach_speaking(bank, "a", seed=1, r=3)
    alone = [states_of(bank, "a") for bank in banks]
    with banks[0].rows(Rows(("a",), (4,))), banks[1].rows(Rows(("a",), (4,))):
        assert all(torch.equal(states(bank.base), own) for bank, own in zip(banks, alone, strict=True))
    assert [bank.current_pass for bank in banks] == [None, None]


def test_a_thread_without_a_pass_gets_the_base_alone(bank: AdapterBank) -> None:
    plain = states(bank.base)
    assert not torch.allclose(states_of(bank, "a"), plain, atol=1e-2)
    with bank.rows(Rows(("a",), (4,))):
        assert torch.equal(elsewhere(lambda: states(bank.base)), plain)
        assert torch.equal(states(bank.base), states(bank.base))
        assert bank.current_pass is not None
        copied = contextvars.copy_context()  # as asyncio.to_thread hands on
        handed_on = elsewhere(lambda: copied.run(states, bank.base))
        assert torch.equal(handed_on, states(bank.base))
    assert torch.equal(copied.run(states, bank.base), plain)  # the pass has ended there too


def test_a_task_beside_one_that_waits_in_its_rows_gets_the_base_alone(bank: AdapterBank) -> None:
    plain = states(bank.base)
    started = asyncio.Event()

    async def waiting() -> Tensor:
        with bank.rows(Rows(("a",), (4,))):
            started.set()
            await asyncio.sleep(0)
            return states(bank.base)

    async def beside() -> Tensor:
        await started.wait()
        return states(bank.base)

    async def both() -> list[Tensor]:
        return await asyncio.gather(waiting(), beside())

    adapted, other = asyncio.run(both())
    assert torch.equal(other, plain)
    assert torch.equal(adapted, states_of(bank, "a"))


def test_a_generator_that_is_closed_in_another_thread_leaves_no_pass_behind(bank: AdapterBank) -> None:
    def streamed() -> Iterator[Tensor]:
        with bank.rows(Rows(("a",), (4,))):
            yield states(bank.base)

    stream = streamed()
    adapted = next(stream)
    assert torch.equal(adapted, states(bank.base))  # a generator runs in its caller's context
    elsewhere(stream.close)  # type: ignore[attr-defined]
    assert bank.current_pass is None
    assert torch.equal(states(bank.base), states_of(bank, None))
    assert torch.equal(states_of(bank, "a"), adapted)


@pytest.mark.parametrize("thread", ["same", "another"])
def test_a_backward_pass_after_the_rows_recomputes_in_the_pass_that_it_belongs_to(
    bank: AdapterBank, thread: str
) -> None:
    batch = batch_of(bank.base, {"a": list(ROWS)}, packing=False)

    def gradients_of(backward: Callable[[Tensor], Any], recomputes: bool) -> dict[str, Tensor]:
        for parameter in bank.parameters("a"):
            parameter.grad = None
        if not recomputes:
            with bank.rows(Rows(batch.slots, batch.num_rows)):
                loss = span_losses(bank.base, batch).sum()
            backward(loss)
        else:
            with recomputing(bank.base):
                with bank.rows(Rows(batch.slots, batch.num_rows)):
                    loss = span_losses(bank.base, batch).sum()
                with bank.rows(Rows(("b",), (6,))):  # another pass is open meanwhile
                    backward(loss)
        return gradients(bank, "a")

    def run(loss: Tensor) -> None:
        loss.backward() if thread == "same" else elsewhere(loss.backward)  # type: ignore[no-untyped-call]

    kept, recomputed = gradients_of(run, False), gradients_of(run, True)
    assert any(bool(gradient.any()) for gradient in kept.values())
    assert_same_gradients(recomputed, kept)
    assert all(p.grad is None for p in bank.parameters("b"))


def test_a_parameter_changed_within_a_pass_or_past_autograd_is_what_the_next_linear_sees(mt5: Base) -> None:
    """Two adapters of near ranks are copied side by side; the copy must never be an old one."""
    bank = AdapterBank(mt5)
    rows = Rows(("a", "b"), (2, 2))
    for number, slot in enumerate("ab"):
        attach_speaking(bank, slot, seed=number, strength=0.5, r=2, target_modules=["wo"])
    B = [bank.parameters("a")[index] for index in range(1, len(bank.parameters("a")), 2)]
    with bank.rows(rows):
        before = states(mt5)
        with torch.no_grad():
            for parameter in B:
                parameter.zero_()
        without = states(mt5)
    assert not torch.allclose(before[:2], without[:2], atol=1e-2)
    assert torch.equal(before[2:], without[2:])
    for parameter in B:
        parameter.data.fill_(0.1)  # which no version counter tells of
    with bank.rows(rows):
        assert not torch.allclose(states(mt5)[:2], without[:2], atol=1e-2)


def test_a_pass_copies_the_parameters_of_its_own_adapters_alone(
    bank: AdapterBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the passes of a step of many adapters would take time that grows with their square."""
    copied: list[int] = []
    copy = torch._foreach_copy_

    def counted(into: list[Tensor], out_of: list[Tensor]) -> None:
        copied.append(len(into))
        copy(into, out_of)

    monkeypatch.setattr(torch, "_foreach_copy_", counted)
    num_linears = len(bank.parts("a"))
    states_of(bank, "a")
    assert copied == [2 * num_linears]  # A and B of each
    with bank.rows(Rows(("a", "b"), (2, 2))), torch.no_grad():
        states(bank.base)
    assert copied[1:] == [4 * num_linears]
