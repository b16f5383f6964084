"""One user at a time: who comes second is refused with a word, and changes nothing for the first."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.linear import BankLinear
from loraloom.bank.merging import merge_adapter
from loraloom.bank.objective import hidden_states, span_losses
from loraloom.base.loading import Base
from loraloom.base.occupancy import Occupancy
from loraloom.data.batches import Batch
from loraloom.data.ownership import Rows
from loraloom.errors import BankError
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings, LoraSettings
from tests.parity.rig import (
    attach_speaking,
    batch_of,
    experiment,
    gradients,
    random_rows,
    recomputing,
    train_all,
)

SOURCES = [row.input_ids.tolist() for row in random_rows(3, seed=4)]
BRIEF = GenerationSettings(max_new_tokens=3)


@pytest.fixture
def bank(mt5: Base) -> AdapterBank:
    bank = AdapterBank(mt5)
    for number, slot in enumerate("ab"):
        attach_speaking(bank, slot, seed=number, r=2, target_modules=["q", "wo"])
    return bank


def elsewhere(call: Callable[[], Any]) -> Any:
    """What a call returns or raises in another thread."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def batch_for(base: Base) -> Batch:
    return batch_of(base, {None: list(random_rows(4))}, packing=False)


@torch.no_grad()
def states(bank: AdapterBank, slot: str | None) -> Tensor:
    with bank.rows(Rows((slot,), (4,))):
        return hidden_states(bank.base, batch_for(bank.base))


def test_rows_of_a_second_thread_are_refused_and_the_first_keeps_its_own(bank: AdapterBank) -> None:
    wanted = {slot: states(bank, slot) for slot in "ab"}
    assert not torch.allclose(wanted["a"], wanted["b"], atol=1e-2)
    with torch.no_grad(), bank.rows(Rows(("a",), (4,))):
        with pytest.raises(BankError, match="another thread is using this base"):
            elsewhere(lambda: states(bank, "b"))
        torch.testing.assert_close(hidden_states(bank.base, batch_for(bank.base)), wanted["a"])
    torch.testing.assert_close(elsewhere(lambda: states(bank, "b")), wanted["b"])


def test_threads_that_race_get_their_own_adapter_or_an_error(bank: AdapterBank) -> None:
    wanted = {slot: states(bank, slot) for slot in "ab"}
    together = threading.Barrier(2, timeout=30)

    def work(slot: str) -> list[bool]:
        right = []
        for _ in range(20):
            together.wait()
            try:
                right.append(torch.allclose(states(bank, slot), wanted[slot], atol=1e-4))
            except BankError:
                continue
        return right

    with ThreadPoolExecutor(2) as threads:
        right = [each for own in threads.map(work, "ab") for each in own]
    assert right
    assert all(right)


CHANGES: dict[str, Callable[[AdapterBank], Any]] = {
    "attach": lambda bank: bank.attach("c", LoraSettings(r=2), seed=1),
    "drop": lambda bank: bank.drop("a"),
    "load": lambda bank: bank.load("a", bank.tensors("b")),
    "merge": lambda bank: merge_adapter(bank, "a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_adapters_do_not_change_under_a_pass(bank: AdapterBank, change: str) -> None:
    """In its own thread neither: a recomputed layer would miss what the forward pass had."""
    before = states(bank, "a")
    with torch.no_grad(), bank.rows(Rows(("a",), (4,))):
        with pytest.raises(BankError, match="another thread is using this base"):
            elsewhere(lambda: CHANGES[change](bank))
        with pytest.raises(BankError, match="while a pass is open"):
            CHANGES[change](bank)
        torch.testing.assert_close(hidden_states(bank.base, batch_for(bank.base)), before)
    assert bank.slots == ("a", "b")


def test_targets_are_not_looked_up_under_another_threads_pass(bank: AdapterBank) -> None:
    """Looking them up takes every adapter off for a moment."""
    with bank.rows(Rows(("a",), (4,))), pytest.raises(BankError):
        elsewhere(lambda: bank.targets_of(LoraSettings()))


@pytest.mark.parametrize("rows", [Rows(("a", "c"), (1, 2)), IndexedRows((None, "c", "a"))])
def test_an_owner_without_an_adapter_is_refused_and_not_answered_by_the_base(
    bank: AdapterBank, rows: Rows | IndexedRows
) -> None:
    with (
        pytest.raises(BankError, match=r"no adapter `c` is attached to this bank\. Allowed: a, b"),
        bank.rows(rows),
    ):
        pass
    with pytest.raises(BankError, match="no adapter `typo`"):
        answer(bank, [None, "typo"], SOURCES, BRIEF)
    bank.drop("a")
    with pytest.raises(BankError, match="no adapter `a`"):
        answer(bank, ["a"], SOURCES, BRIEF)
    bank.drop("b")
    with pytest.raises(BankError, match="Allowed: the base alone"):
        answer(bank, ["b"], SOURCES, BRIEF)
    assert len(answer(bank, [None], SOURCES, BRIEF)[None]) == len(SOURCES)


def test_rows_within_rows_are_refused_and_the_outer_ones_stay(bank: AdapterBank) -> None:
    outer = Rows(("a",), (4,))
    with bank.rows(outer):
        with pytest.raises(BankError, match="already open"), bank.rows(Rows(("b",), (4,))):
            pass
        assert bank.current_pass is not None
        assert bank.current_pass.rows is outer
        with pytest.raises(BankError, match="already open"):
            answer(bank, ["b"], SOURCES, BRIEF)
        assert bank.base.model.training
    assert bank.current_pass is None


def test_two_generators_that_stop_inside_their_rows_do_not_share_them(bank: AdapterBank) -> None:
    def streamed(slot: str) -> Iterator[Tensor]:
        with torch.no_grad(), bank.rows(Rows((slot,), (4,))):
            while True:
                yield hidden_states(bank.base, batch_for(bank.base))

    first, second = streamed("a"), streamed("b")
    before = next(first)
    with pytest.raises(BankError, match="a generator or coroutine that pauses inside it"):
        next(second)
    assert torch.equal(next(first), before)
    first.close()  # type: ignore[attr-defined]
    torch.testing.assert_close(next(streamed("b")), states(bank, "b"))


def test_two_coroutines_do_not_share_their_rows(bank: AdapterBank) -> None:
    async def pass_later(slot: str) -> Any:
        with bank.rows(Rows((slot,), (4,))):
            await asyncio.sleep(0)
            return bank.current_pass and bank.current_pass.rows

    async def both() -> list[Any]:
        return await asyncio.gather(pass_later("a"), pass_later("b"), return_exceptions=True)

    first, second = asyncio.run(both())
    assert first == Rows(("a",), (4,))
    assert isinstance(second, BankError)


def test_nobody_answers_or_trains_in_a_base_whose_mode_another_thread_has_set(
    bank: AdapterBank, tmp_path: Any
) -> None:
    alone = answer(bank, ["a"], SOURCES, BRIEF)
    refused: list[BaseException | None] = []
    calls = [lambda: answer(bank, ["b"], SOURCES, BRIEF), lambda: states(bank, "b")]

    def try_all() -> None:
        for call in calls:
            with ThreadPoolExecutor(1) as threads:
                refused.append(threads.submit(call).exception())
        assert not bank.base.model.training

    assert answer(bank, ["a"], SOURCES, BRIEF, on_token=try_all) == alone
    assert len(refused) == 2 * BRIEF.max_new_tokens
    assert all(isinstance(each, BankError) for each in refused)
    assert bank.base.model.training
    for slot in "ab":
        bank.drop(slot)
    with bank.hold(), pytest.raises(BankError):
        elsewhere(lambda: train_all(bank.base, [experiment("x")], random_rows(4), tmp_path / "run"))


def test_a_backward_pass_of_another_thread_recomputes_with_the_rows_of_the_pass(bank: AdapterBank) -> None:
    """As autograd does on a GPU: what a thread may do is decided at `rows`, never in a linear."""

    def gradients_by(run: Callable[[Callable[[], Any]], Any]) -> dict[str, Tensor]:
        batch = batch_of(bank.base, {"a": list(random_rows(4))}, packing=False)
        for parameter in bank.parameters("a"):
            parameter.grad = None
        with recomputing(bank.base), bank.rows(Rows(batch.slots, batch.num_rows)):
            run(span_losses(bank.base, batch).sum().backward)
        return gradients(bank, "a")

    here, there = gradients_by(lambda call: call()), gradients_by(elsewhere)
    assert any(bool(gradient.any()) for gradient in here.values())
    assert all(torch.equal(there[name], gradient) for name, gradient in here.items())


def test_a_second_bank_does_not_take_the_place_of_an_attached_adapter(mt5: Base) -> None:
    early, first = AdapterBank(mt5), AdapterBank(mt5)
    attach_speaking(first, "a", seed=1, r=2, target_modules=["q"])
    before = states(first, "a")
    with pytest.raises(BankError, match="another bank has adapters on this base"):
        early.attach("b", LoraSettings(r=2), seed=1)
    with pytest.raises(BankError, match="another bank has adapters on this base"):
        AdapterBank(mt5)
    with first.rows(Rows(("a",), (4,))), pytest.raises(BankError, match="already open"):
        states(early, None)
    assert torch.equal(states(first, "a"), before)
    first.drop("a")
    early.attach("b", LoraSettings(r=2), seed=1)
    assert any(isinstance(module, BankLinear) for module in mt5.model.modules())


def test_what_ends_in_an_error_is_given_back_and_a_copy_is_free() -> None:
    occupancy = Occupancy()

    def claim() -> bool:
        with occupancy.claim():
            return True

    with pytest.raises(ZeroDivisionError), occupancy.one_pass():
        raise ZeroDivisionError
    with occupancy.one_pass():
        with pytest.raises(BankError):
            elsewhere(claim)
        with copy.deepcopy(occupancy).one_pass():
            pass
    assert elsewhere(claim)
