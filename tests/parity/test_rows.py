"""Whose row is whose: said as spans or row by row, in any order, for the decoder's beams too."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.objective import hidden_states
from loraloom.base.loading import Base
from loraloom.data.ownership import Rows, seed_for
from tests.parity.rig import attach_speaking, batch_of, random_rows

# In bank.rows' two forms: who owns each of nine rows.
OWNERS: tuple[str | None, ...] = ("a", None, "b", "b", "a", "c", None, "c", "a")


def bank_of_three(base: Base) -> AdapterBank:
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4)
    attach_speaking(bank, "b", seed=2, r=3, target_modules=["q", "wo"])
    attach_speaking(bank, "c", seed=3, r=9, use_rslora=True, target_modules=["decoder:all-linear"])
    return bank


@torch.no_grad()
def test_rows_in_any_order_equal_the_same_rows_side_by_side(base: Base) -> None:
    bank, rows = bank_of_three(base), list(random_rows(9, seed=8))
    mixed = batch_of(base, {None: rows}, packing=False)
    with bank.rows(IndexedRows(OWNERS)):
        actual = hidden_states(base, mixed)
    order = sorted(range(9), key=lambda row: str(OWNERS[row]))
    owners = tuple(OWNERS[row] for row in order)
    contiguous = batch_of(base, {None: [rows[row] for row in order]}, packing=False)
    with bank.rows(Rows(owners, (1,) * 9)):
        expected = hidden_states(base, contiguous)
    plain = hidden_states(base, mixed)
    for place, row in enumerate(order):
        is_token = mixed.target_segments[row] > 0
        torch.testing.assert_close(actual[row][is_token], expected[place][is_token], rtol=1e-5, atol=1e-5)
        changed = float((actual[row] - plain[row])[is_token].abs().max())
        assert changed > 1e-2 if OWNERS[row] is not None else changed < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("beams", [2, 3])
def test_each_beam_of_the_decoder_belongs_to_its_rows_owner(base: Base, beams: int) -> None:
    """Encoder rows as said, decoder rows `beams` times as many: each beam equals its row decoded alone."""
    bank, batch = bank_of_three(base), batch_of(base, {None: list(random_rows(9, seed=8))}, packing=False)

    def states(rows: Rows | IndexedRows, times: int) -> Tensor:
        def expanded(tensor: Tensor) -> Tensor:
            return tensor.repeat_interleave(times, 0)

        with bank.rows(rows):
            encoded = base.model.get_encoder()(input_ids=batch.input_ids, attention_mask=batch.encoder_mask)
            return base.model.get_decoder()(
                input_ids=expanded(batch.decoder_input_ids),
                attention_mask=expanded(batch.decoder_mask),
                encoder_hidden_states=expanded(encoded.last_hidden_state),
                encoder_attention_mask=expanded(batch.cross_mask),
                use_cache=False,
            ).last_hidden_state

    each = (1,) * len(OWNERS)
    expected = states(Rows(OWNERS, each), 1).repeat_interleave(beams, 0)
    is_token = (batch.target_segments > 0).repeat_interleave(beams, 0)
    for rows in (Rows(OWNERS, each, expansion=beams), IndexedRows(OWNERS, expansion=beams)):
        torch.testing.assert_close(states(rows, beams)[is_token], expected[is_token], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("rows", [Rows(("a",), (3,)), IndexedRows(("a",) * 3), Rows(("a",), (4,), 2)])
def test_a_batch_of_other_rows_than_were_said_is_refused(mt5: Base, rows: Rows | IndexedRows) -> None:
    bank, batch = bank_of_three(mt5), batch_of(mt5, {None: list(random_rows(5))}, packing=False)
    with pytest.raises(AssertionError, match="have an owner"), bank.rows(rows):
        hidden_states(mt5, batch)
    assert bank.current_pass is None


def test_rows_are_taken_back_when_an_error_passes(mt5: Base) -> None:
    bank = bank_of_three(mt5)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), bank.rows(Rows(("a",), (1,))):
            raise ZeroDivisionError
        assert bank.current_pass is None


def test_seeds_differ_for_whatever_differs() -> None:
    purposes = [(1, "A", "q"), (2, "A", "q"), (1, "B", "q"), (1, "A", "k"), (1, "A"), (1, "Aq"), (11, "A")]
    seeds = {seed_for(seed, *purpose) for seed, *purpose in purposes}
    assert len(seeds) == len(purposes)
    assert all(0 <= seed < 2**63 for seed in seeds)
