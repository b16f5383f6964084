"""The GPU of a rank: that of its local number, or the only one that a scheduler shows it."""

from __future__ import annotations

import pytest
import torch

from loraloom.base.device_and_dtype import rank_device
from loraloom.distributed.launch import Launch
from loraloom.errors import ModelError

SECOND = Launch(rank=1, size=2, local_rank=1, local_size=2, address="here", port=1)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """GPUs that became the current one; there are as many as CUDA_VISIBLE_DEVICES names, by default two."""
    seen: list[int] = []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    return seen


def test_each_rank_takes_the_gpu_of_its_number(chosen: list[int]) -> None:
    assert rank_device("auto", SECOND) == "cuda:1"
    assert chosen == [1]


@pytest.mark.parametrize("shown", ["3", "GPU-8a56", " 1 "])
def test_a_rank_that_is_shown_a_single_gpu_takes_that_one(
    chosen: list[int], monkeypatch: pytest.MonkeyPatch, shown: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert rank_device("cuda:1", SECOND) == "cuda:0"
    assert chosen == [0]


def test_two_ranks_on_a_machine_with_one_gpu_are_refused(
    chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ModelError, match="more processes on this machine than GPUs"):
        rank_device("auto", SECOND)
    assert chosen == []
