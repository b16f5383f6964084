"""Packed, padded and alone: one loss, one gradient. Recomputed or kept: one gradient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.dropout import base_dropout
from loraloom.base.loading import Base, load_base
from loraloom.data.encoding import EncodedExample, EncodedSet
from loraloom.recipe import LoraSettings
from loraloom.starter import data_file, model_folder
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    losses_and_gradients,
    random_rows,
    recomputing,
)
from tests.tiny import make_folder

ROWS = list(random_rows(9, seed=3))


def speaking_bank(base: Base, *, lora_dropout: float = 0.0) -> AdapterBank:
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4, lora_dropout=lora_dropout)
    attach_speaking(bank, "b", seed=2, r=5, lora_dropout=lora_dropout / 2, target_modules=["q", "v", "wo"])
    return bank


def examples() -> dict[str | None, list[EncodedExample]]:
    return {"a": ROWS[:6], "b": ROWS[2:]}


@contextmanager
def detached(bank: AdapterBank) -> Iterator[AdapterBank]:
    try:
        yield bank
    finally:
        for slot in bank.slots:
            bank.drop(slot)


def test_packing_puts_several_rows_in_one_and_labels_at_every_boundary(mt5: Base) -> None:
    """The premise of the other tests here: their packed batch is one that could go wrong."""
    packed, padded = (batch_of(mt5, examples(), packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels) == 13
    assert int(packed.target_segments.max()) >= 3
    assert bool((packed.labels[:, -1] != -100).any())  # the last column holds a label
    ends = [s.start + s.length for own in packed.segments["target"] for s in own]
    assert len({end for end in ends if end < packed.labels.shape[1]}) >= 3
    assert int((packed.labels == mt5.eos_token_id).sum()) == 13


def test_packed_padded_and_wider_rows_agree(base: Base) -> None:
    with detached(speaking_bank(base)) as bank:
        packed = losses_and_gradients(bank, batch_of(base, examples(), packing=True))
        for options in ({"packing": False}, {"packing": True, "min_width": (29, 31)}):
            losses, gradients = losses_and_gradients(bank, batch_of(base, examples(), **options))
            for slot in ("a", "b"):
                assert losses[slot] == pytest.approx(packed[0][slot], rel=1e-5)
                # Sums over the same tokens in rows of other widths, each with a rounding of its own.
                assert_same_gradients(gradients[slot], packed[1][slot], tolerance=2e-5)


def test_packed_rows_are_rows_alone(base: Base) -> None:
    with detached(speaking_bank(base)) as bank:
        losses, gradients = losses_and_gradients(bank, batch_of(base, examples(), packing=True))
        for slot, rows in examples().items():
            total_loss, total = 0.0, {name: torch.zeros_like(t) for name, t in gradients[str(slot)].items()}
            num_labels = sum(len(row.labels) for row in rows)
            for row in rows:
                single, own = losses_and_gradients(bank, batch_of(base, {slot: [row]}))
                weight = len(row.labels) / num_labels
                total_loss += single[str(slot)] * weight
                for name, gradient in own[str(slot)].items():
                    total[name] += gradient * weight
            assert losses[str(slot)] == pytest.approx(total_loss, rel=1e-5)
            # The sum of as many passes as there are rows, each with a rounding of its own.
            assert_same_gradients(gradients[str(slot)], total, tolerance=2e-5)


@pytest.mark.parametrize("kind", ["bart", "mbart", "marian", "pegasus", "m2m100"])
def test_a_packed_row_may_be_wider_than_a_table_of_positions(kind: str, tmp_path: Path) -> None:
    """Forty positions, for examples of up to 38 tokens that share rows of more than forty."""
    base = load_base(str(make_folder(tmp_path, kind, max_position_embeddings=40)), device="cpu")
    lengths = [(10, 38), (9, 31), (8, 25), (7, 20), (5, 14), (36, 5), (3, 30)]
    rows = [
        EncodedExample(np.arange(5, 5 + source, dtype=np.int32), np.arange(9, 9 + target, dtype=np.int32))
        for source, target in lengths
    ]
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4)
    packed, padded = (batch_of(base, {"a": rows}, packing=packing) for packing in (True, False))
    assert packed.labels.shape[1] > 40
    losses, gradients = losses_and_gradients(bank, packed)
    wanted, expected = losses_and_gradients(bank, padded)
    assert losses["a"] == pytest.approx(wanted["a"], rel=1e-5)
    assert_same_gradients(gradients["a"], expected["a"], tolerance=2e-5)


@pytest.mark.parametrize(("lora", "of_base"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_packed_equals_padded_with_dropout(base: Base, lora: float, of_base: float) -> None:
    """Masks are drawn for an example's own tokens, so that where it lies does not change them."""
    if of_base and base.family.without_base_dropout:
        pytest.skip("a recipe that asks for it is refused")
    with detached(speaking_bank(base, lora_dropout=lora)) as bank:
        without, _ = losses_and_gradients(bank, batch_of(base, {"a": ROWS[:6]}), seed=1)
        with base_dropout(base, of_base):
            packed = losses_and_gradients(bank, batch_of(base, examples(), packing=True))
            padded = losses_and_gradients(bank, batch_of(base, examples(), packing=False))
            other, _ = losses_and_gradients(bank, batch_of(base, examples()), seed=8)
        for slot in ("a", "b"):
            assert packed[0][slot] == pytest.approx(padded[0][slot], rel=1e-5)
            assert_same_gradients(packed[1][slot], padded[1][slot], tolerance=5e-5)
            assert packed[0][slot] != pytest.approx(other[slot], rel=1e-4)  # something was dropped
    if of_base:
        assert packed[0]["a"] != pytest.approx(without["a"], rel=1e-4)


@pytest.mark.parametrize("of_base", [0.0, 0.2])
def test_recomputed_activations_give_the_same_gradients(base: Base, of_base: float) -> None:
    """Dropout is on: recomputing a layer in the backward pass must draw the same masks again."""
    if of_base and base.family.without_base_dropout:
        pytest.skip("a recipe that asks for it is refused")
    with detached(speaking_bank(base, lora_dropout=0.3)) as bank, base_dropout(base, of_base):
        batch = batch_of(base, examples())
        kept_losses, kept = losses_and_gradients(bank, batch)
        runs: list[int] = []
        first = bank.available[0].module
        hook = first.register_forward_hook(lambda *_: runs.append(1))
        with recomputing(base):
            losses, recomputed = losses_and_gradients(bank, batch)
        hook.remove()
        assert len(runs) == 2  # it was recomputed
        for slot in ("a", "b"):
            assert losses[slot] == pytest.approx(kept_losses[slot], rel=1e-6)
            assert_same_gradients(recomputed[slot], kept[slot])


def test_packing_changes_gradients_of_large_scores_by_rounding_alone() -> None:
    """The starter's scores of attention reach hundreds, and Adam makes steps of what rounding leaves."""
    base = load_base(str(model_folder()), dtype="float32", device="cpu")
    texts = json.loads(data_file("train").read_text(encoding="utf-8"))[:8]
    sides = ([base.tokenizer(row[key]).input_ids for row in texts] for key in ("instruction", "response"))
    rows, bank = list(EncodedSet(*sides)), AdapterBank(base)
    bank.attach("a", LoraSettings(r=4), seed=1)
    packed, alone = (
        losses_and_gradients(bank, batch_of(base, {"a": rows}, packing=packing))[1]["a"]
        for packing in (True, False)
    )
    difference = torch.cat([(own - alone[name]).flatten() for name, own in packed.items()])
    whole = torch.cat([own.flatten() for own in alone.values()])
    assert 0 < float(difference.norm()) <= 1e-6 * float(whole.norm())
