"""`training.cuda_graphs` says so if it has no effect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.checks.cuda_graphs import check_cuda_graphs
from loraloom.checks.gate import run_gate
from loraloom.training import recording_limits
from loraloom.training.recording_limits import why_not_recorded
from tests.parity.rig import experiment, random_rows


def test_on_a_processor_it_has_no_effect_and_the_check_says_so(base: Base) -> None:
    rows = random_rows(4, seed=5)
    (finding,) = run_gate(
        base, [experiment("a", cuda_graphs=True)], {}, rows, packing=True, checks=[check_cuda_graphs]
    )
    assert (finding.level, finding.where) == ("note", "training.cuda_graphs")
    assert (
        finding.message
        == "this setting has no effect, because the base is not on a GPU that records CUDA graphs"
    )
    assert run_gate(base, [experiment("a")], {}, rows, packing=True, checks=[check_cuda_graphs]) == []


@pytest.mark.parametrize(
    ("of_base", "of_training", "lora", "reason"),
    [
        ({}, {}, {}, None),
        ({}, {"label_smoothing_factor": 0.1}, {}, None),
        ({}, {}, {"loraplus_lr_ratio": 4}, None),
        ({"quantization": "nf4"}, {}, {}, "the base is quantized"),
        ({"is_sharded": True}, {}, {}, "training.shard_base is set"),
        ({}, {"gradient_checkpointing": True}, {}, "training.gradient_checkpointing is set"),
        ({}, {"base_dropout": 0.1}, {}, "training.base_dropout is set"),
        ({}, {"base_dropout": "model"}, {}, "training.base_dropout is set"),
        ({}, {}, {"use_dora": True}, "the lora settings of `a` need passes that cannot be recorded"),
        (
            {},
            {},
            {"rank_pattern": {"q": 4}},
            "the lora settings of `a` need passes that cannot be recorded",
        ),
    ],
)
def test_each_reason_on_a_gpu(
    mt5: Base,
    monkeypatch: pytest.MonkeyPatch,
    of_base: dict[str, Any],
    of_training: dict[str, Any],
    lora: dict[str, Any],
    reason: str | None,
) -> None:
    monkeypatch.setattr(recording_limits, "HAS_TRITON", True)
    facts = {
        "device": torch.device("cuda"),
        "family": mt5.family,
        "quantization": "none",
        "is_sharded": False,
    }
    on_gpu: Any = SimpleNamespace(**facts | of_base)
    wanted = experiment("a", lora=lora, cuda_graphs=True, **of_training)
    assert why_not_recorded(on_gpu, wanted.training, [wanted]) == reason


def test_without_triton_and_in_other_families(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = experiment("a", cuda_graphs=True)
    facts = {"device": torch.device("cuda"), "quantization": "none", "is_sharded": False}
    monkeypatch.setattr(recording_limits, "HAS_TRITON", False)
    on_gpu: Any = SimpleNamespace(family=mt5.family, **facts)
    assert why_not_recorded(on_gpu, wanted.training, [wanted]) == "Triton is not installed"
    monkeypatch.setattr(recording_limits, "HAS_TRITON", True)
    other: Any = SimpleNamespace(family=SimpleNamespace(has_static_passes=False, title="BART"), **facts)
    assert why_not_recorded(other, wanted.training, [wanted]) == "passes of BART models cannot be recorded"
