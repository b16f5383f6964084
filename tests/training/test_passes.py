"""However many passes a tick takes, every experiment learns the same; one pass bounds the memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from loraloom.base.loading import load_base
from loraloom.data.batches import Part
from loraloom.data.encoding import Encoded
from loraloom.training import loop
from loraloom.training.plan import Need, wave_bytes
from tests.parity import rig


def part(name: str, *lengths: int) -> Part:
    ids = [np.ones(length, dtype=np.int32) for length in lengths]
    return Part(name, [Encoded(own, own) for own in ids])


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, [[0], [1], [2]]),
        (20, [[0, 1], [2]]),
        (18, [[0, 1], [2]]),
        (17, [[0], [1], [2]]),
        (100, [[0, 1, 2]]),
    ],
)
def test_a_pass_holds_what_fits_and_at_least_one(limit: int, expected: list[list[int]]) -> None:
    parts = {0: part("a", 4), 1: part("b", 2, 3), 2: part("c", 6, 2)}  # 8, 10 and 16 tokens
    assert loop._passes(parts, limit) == expected


@pytest.mark.parametrize("limit", [1, 60])
def test_the_number_of_passes_changes_no_adapter(
    limit: int, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base(str(tiny("mt5")))
    rows = rig.random_rows(12, seed=1)
    experiments = [
        rig.experiment("a", lora={"lora_dropout": 0.2}, per_device_train_batch_size=3),
        rig.experiment("b", lora={"r": 4, "target_modules": ["q", "v"]}, gradient_accumulation_steps=2),
        rig.experiment("c", learning_rate=1e-3),
    ]
    whole = rig.train_all(base, experiments, rows, tmp_path / "whole")
    real = loop._passes
    monkeypatch.setattr(loop, "_passes", lambda parts, most: real(parts, limit))
    parted = rig.train_all(base, experiments, rows, tmp_path / "parted")
    for name in ("a", "b", "c"):
        ours, theirs = parted.adapter(name), whole.adapter(name)
        for key, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[key], rtol=1e-4, atol=1e-5)


def test_a_wave_needs_all_adapters_but_only_one_pass_of_activations() -> None:
    needs = [Need(10, 1000, 500)] * 8
    assert wave_bytes(needs, tokens=500) == 80 + 1000
    assert wave_bytes(needs, tokens=1000) == 80 + 2000
    assert wave_bytes(needs, tokens=10**9) == 80 + 8000
    assert wave_bytes([Need(10, 5000, 2500)], tokens=500) == 10 + 5000  # a micro-batch alone is not parted
