"""`training.cuda_graphs` says so if it has no effect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base
from loraloom.checks.cuda_graphs import check_cuda_graphs, recorded_passes
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
        == "no pass is recorded here, because the base is not on a GPU that records CUDA graphs"
    )
    assert run_gate(base, [experiment("a")], {}, rows, packing=True, checks=[check_cuda_graphs]) == []


@pytest.fixture
def on_gpu(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is asked of a base that is on a GPU."""
    monkeypatch.setattr(recording_limits, "HAS_TRITON", True)
    return SimpleNamespace(
        device=torch.device("cuda"), family=mt5.family, quantization="none", is_sharded=False
    )


@pytest.mark.parametrize(
    ("of_base", "of_training", "reason"),
    [
        ({}, {}, None),
        ({"quantization": "nf4"}, {}, "the base is quantized"),
        ({"is_sharded": True}, {}, "training.shard_base is set"),
        ({}, {"gradient_checkpointing": True}, "training.gradient_checkpointing is set"),
        ({}, {"base_dropout": 0.1}, "training.base_dropout is set"),
        ({}, {"base_dropout": "model"}, "training.base_dropout is set"),
        (
            {"family": SimpleNamespace(has_static_passes=False, title="BART")},
            {},
            "passes of BART models cannot be recorded",
        ),
    ],
)
def test_each_reason_on_a_gpu(
    on_gpu: Any, of_base: dict[str, Any], of_training: dict[str, Any], reason: str | None
) -> None:
    vars(on_gpu).update(of_base)
    assert why_not_recorded(on_gpu, experiment("a", **of_training).training) == reason


def test_without_triton_nothing_is_recorded(on_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording_limits, "HAS_TRITON", False)
    assert why_not_recorded(on_gpu, experiment("a").training) == "Triton is not installed"


UNLIKE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"use_dora": True}, {}),
    ({"rank_pattern": {"q": 4}}, {}),
    ({}, {"label_smoothing_factor": 0.1}),
]


@pytest.mark.parametrize(("lora", "training"), UNLIKE)
def test_experiments_that_prevent_a_recording_are_named(
    on_gpu: Any, lora: dict[str, Any], training: dict[str, Any]
) -> None:
    plain = experiment("plain", lora={"loraplus_lr_ratio": 4}, cuda_graphs=True)
    other = experiment("other", lora=lora, cuda_graphs=True, **training)
    (finding,) = recorded_passes(on_gpu, [plain])
    assert (finding.level, finding.message) == (
        "ok",
        "training passes of equal shapes are recorded as CUDA graphs",
    )
    (finding,) = recorded_passes(on_gpu, [plain, other])
    assert finding.level == "note"
    assert finding.message.startswith(
        "passes of `other` are not recorded, nor those of experiments that train"
    )
    (finding,) = recorded_passes(on_gpu, [other])
    assert finding.level == "note"
    assert finding.message.startswith(
        "no pass is recorded, because of the lora settings or the label smoothing"
    )
