"""An adapter trained among others equals the same adapter trained alone.

Not bit for bit: the shape of a product changes its last bits, and AdamW divides by the size of a
gradient, so that an element whose gradient is mere rounding may step either way. Losses are held at
1e-5 relative over 20 steps; adapters at 1e-4 of the largest element of each tensor, but for one element in
fifty, which is held at 5e-3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from loraloom.bank.updates import lora_stack
from loraloom.base.loading import Base
from loraloom.kernels.low_rank_sums import Group
from loraloom.recipe import Experiment
from tests.parity.rig import TrainedRun, experiment, random_rows, train_all

TRAIN = random_rows(14, seed=5)
EVAL = random_rows(5, seed=6)
STEPS = 20


def experiments() -> list[Experiment]:
    """All that may differ between experiments does; the third ends in the middle."""
    return [
        experiment(
            "narrow",
            lora={"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["q", "v"]},
            seed=1,
            learning_rate=1e-3,
            per_device_train_batch_size=3,
            max_steps=STEPS,
        ),
        experiment(
            "wide",
            lora={"r": 8, "lora_dropout": 0.0},
            seed=2,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            warmup_steps=0.2,
            weight_decay=0.1,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=STEPS,
        ),
        experiment(
            "short",
            lora={"r": 3, "lora_dropout": 0.3, "use_rslora": True, "target_modules": ["decoder:all-linear"]},
            seed=3,
            lr_scheduler_type="constant",
            label_smoothing_factor=0.1,
            per_device_train_batch_size=3,
            max_steps=7,
        ),
        experiment(
            "epochs",
            lora={"r": 6, "lora_dropout": 0.2, "target_modules": ["cross:k", "wo", "encoder:o"]},
            seed=1,
            learning_rate=2e-3,
            max_grad_norm=0.05,
            adam_beta2=0.95,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=4,
            num_train_epochs=5,
        ),
    ]


def assert_same_training(actual: TrainedRun, alone: TrainedRun, name: str) -> None:
    assert actual.losses(name) == pytest.approx(alone.losses(name), rel=1e-5)
    assert actual.column(name, "eval_loss", "eval") == pytest.approx(
        alone.column(name, "eval_loss", "eval"), rel=1e-5
    )
    expected = alone.adapter(name)
    assert actual.adapter(name).keys() == expected.keys()
    for key, tensor in actual.adapter(name).items():
        differences = ((tensor - expected[key]).abs() / expected[key].abs().max()).flatten()
        assert float(differences.quantile(0.98)) <= 1e-4, (name, key)
        assert float(differences.max()) <= 5e-3, (name, key)


@pytest.mark.parametrize(
    ("kind", "shared"),
    [
        ("flan", {"packing": True}),
        ("t5", {"packing": False, "base_dropout": 0.1}),
    ],
    ids=str,
)
def test_four_adapters_together_are_four_adapters_alone(
    base: Base, tmp_path: Path, shared: dict[str, Any]
) -> None:
    together = train_all(base, experiments(), TRAIN, tmp_path / "bank", **shared)
    for each in experiments():
        alone = train_all(base, [each], TRAIN, tmp_path / each.name, **shared)
        assert len(alone.losses(each.name)) == (7 if each.name == "short" else STEPS)
        moved = [t.abs().max() for key, t in alone.adapter(each.name).items() if key.endswith("lora_B")]
        assert min(moved) > 1e-3  # every module was trained
        assert_same_training(together, alone, each.name)


def test_the_rows_of_like_adapters_run_as_one_product_and_equal_them_alone(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near ranks and spans of equal size take the batched path; a rank is padded with zeros there."""
    batched: list[int] = []
    compute = lora_stack.linear_with_low_ranks

    def count(x: Tensor, weight: Tensor, bias: Tensor | None, groups: Sequence[Group]) -> Tensor:
        batched.extend(len(group.parameters) // 2 for group in groups)
        return compute(x, weight, bias, groups)

    monkeypatch.setattr(lora_stack, "linear_with_low_ranks", count)
    alike = [
        experiment(
            name, lora={"r": r, "lora_dropout": p}, seed=seed, per_device_train_batch_size=3, max_steps=STEPS
        )
        for name, r, p, seed in (("a", 4, 0.1, 1), ("b", 7, 0.0, 2), ("c", 8, 0.2, 3))
    ]
    together = train_all(mt5, alike, TRAIN, tmp_path / "bank", packing=False)
    assert set(batched) == {3}
    for each in alike:
        alone = train_all(mt5, [each], TRAIN, tmp_path / each.name, packing=False)
        assert_same_training(together, alone, each.name)


def test_waves_and_evaluation_change_no_adapter(mt5: Base, tmp_path: Path) -> None:
    """The second wave begins after the first has ended, and each experiment evaluates when it likes."""
    evaluated = [
        dataclasses.replace(
            e,
            training=e.training.model_copy(update={"eval_strategy": "steps", "eval_steps": 2 + number}),
        )
        for number, e in enumerate(experiments()[:3])
    ]
    names = [e.name for e in evaluated]
    in_waves = train_all(
        mt5, evaluated, TRAIN, tmp_path / "waves", waves=[names[:2], names[2:]], eval_set=EVAL
    )
    assert in_waves.state.tick == STEPS + 7
    for each in evaluated:
        alone = train_all(mt5, [each], TRAIN, tmp_path / each.name, eval_set=EVAL)
        assert alone.column(each.name, "eval_loss", "eval")
        assert_same_training(in_waves, alone, each.name)
