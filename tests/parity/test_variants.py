"""Each variant of LoRA, trained by us for 20 steps, equals the one trained by PEFT and the stock Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.optimizers import create_loraplus_optimizer

from loraloom.base.loading import Base
from tests.families import TWO_KINDS
from tests.parity.rig import experiment, random_rows, train_all
from tests.parity.stock_trainer import WITHOUT_DROPOUT, assert_same_as_stock

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
ROWS = random_rows(14, seed=5)


def assert_same(
    base: Base, folder: Path, tmp_path: Path, lora: dict[str, Any], *, training: Any = (), **options: Any
) -> None:
    """Train with these settings of LoRA both ways."""
    settings = {**WITHOUT_DROPOUT, **dict(training), "lora": {**WITHOUT_DROPOUT["lora"], **lora}}
    each = experiment("main", **settings)
    ours = train_all(base, [each], ROWS, tmp_path / "ours")
    assert_same_as_stock(ours, base, folder, each, ROWS, tmp_path / "stock", **options)


def test_lora_plus(mt5: Base, tiny: Any, tmp_path: Path) -> None:
    def make(model: Any) -> Any:
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=WITHOUT_DROPOUT["learning_rate"],
            loraplus_lr_ratio=4,
            loraplus_weight_decay=WITHOUT_DROPOUT["weight_decay"],
        )

    assert_same(mt5, tiny("mt5"), tmp_path, {"loraplus_lr_ratio": 4}, make_optimizer=make)


def test_ranks_and_scales_of_single_modules_in_some_layers(mt5: Base, tiny: Any, tmp_path: Path) -> None:
    patterns = {
        "rank_pattern": {"decoder.*SelfAttention.q": 7, "q|v": 2},
        "alpha_pattern": {"wo": 3, r"encoder\..*": 8},
        "layers_to_transform": [1],
    }
    lora = {**patterns, "use_rslora": True, "target_modules": ["q", "v", "wo"]}
    assert_same(
        mt5, tiny("mt5"), tmp_path, lora, config={**patterns, "use_rslora": True}, weights_within=1e-3
    )


@pytest.mark.parametrize("kind", TWO_KINDS)
def test_dora(base: Base, kind: str, tiny: Any, tmp_path: Path) -> None:
    """BART's linears have biases, which the factors leave alone."""
    dora = {"use_dora": True}
    assert_same(base, tiny(kind), tmp_path, dora, config=dora, weights_within=1e-3)
