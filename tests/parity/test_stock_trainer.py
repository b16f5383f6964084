"""An adapter trained by us equals one trained by PEFT and the stock Seq2SeqTrainer, whatever its settings.

Same initial A and B, same order of rows, same settings, no dropout. The Trainer pads, its model
computes its own logits and loss, torch's AdamW and transformers' schedule step it. That it holds for every
family is asked in `test_every_family.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet
from loraloom.recipe import Experiment
from tests.families import TWO_KINDS
from tests.parity.rig import experiment, random_rows, train_all
from tests.parity.stock_trainer import assert_same_as_stock

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
STEPS = 20


def assert_same(
    base: Base, folder: Path, each: Experiment, rows: EncodedSet, tmp_path: Path, **options: Any
) -> None:
    ours = train_all(base, [each], rows, tmp_path / "ours")
    assert_same_as_stock(ours, base, folder, each, rows, tmp_path / "stock", **options)


@pytest.mark.parametrize("kind", TWO_KINDS)
def test_with_label_smoothing(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """The Trainer's own smoother takes the logits of the whole vocabulary.

    Over eight orders of rows the weights differ by up to 3e-4 of the largest with smoothing, and by up to
    7e-4 without: AdamW divides by the size of a gradient, and one that is mere rounding may step either way.
    """
    each = experiment(
        "main",
        lora={"r": 4, "lora_alpha": 16, "lora_dropout": 0.0},
        learning_rate=3e-3,
        label_smoothing_factor=0.1,
        max_grad_norm=0.5,
        per_device_train_batch_size=3,
        num_train_epochs=4,
    )
    assert_same(base, tiny(kind), each, random_rows(14, seed=5), tmp_path, weights_within=1e-3)


def test_accumulated_batches_of_equally_many_tokens(mt5: Base, tiny: Any, tmp_path: Path) -> None:
    """The Trainer averages the means of micro-batches, which is our mean over tokens where they are even."""
    each = experiment(
        "main",
        lora={"r": 4, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["q", "v"]},
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=3,
        max_grad_norm=0.1,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=STEPS,
    )
    assert_same(mt5, tiny("mt5"), each, random_rows(12, seed=5, target_len=7), tmp_path)


@pytest.mark.parametrize("kind", TWO_KINDS)
def test_accumulated_batches_of_mixed_lengths(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """With the token mean that the Trainer supports, mixed lengths and a last step of one micro-batch."""
    each = experiment(
        "main",
        lora={"r": 4, "lora_alpha": 16, "lora_dropout": 0.0},
        learning_rate=3e-3,
        lr_scheduler_type="constant",
        weight_decay=0.1,
        max_grad_norm=0.5,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=STEPS,
    )
    assert_same(base, tiny(kind), each, random_rows(14, seed=5), tmp_path, by_token=True)
