"""A divided base: each rank keeps its part of every weight once, and the plan counts what it gathers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.base.sharding import local_part
from loraloom.forecast.footprint import Counter, gathered_bytes
from loraloom.forecast.traffic import predict_traffic
from tests.parity.rig import experiment, random_rows


@pytest.fixture(params=["mt5", "t5"])
def bases(request: Any, tiny: Callable[[str], Path]) -> Iterator[tuple[Base, Base]]:
    """A base, and rank 0's part of it on two ranks; the head of mt5 is its own, that of t5 the embeddings."""
    folder = str(tiny(request.param))
    whole = load_base(folder, dtype="float32", device="cpu")
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)  # type: ignore[no-untyped-call]
    try:
        yield whole, load_base(folder, dtype="float32", device="cpu", is_sharded=True)
    finally:
        dist.destroy_process_group()


def test_a_rank_keeps_half_of_every_weight_once(bases: tuple[Base, Base]) -> None:
    whole, divided = bases
    assert divided.fingerprint == whole.fingerprint
    words, features = whole.head.weight.shape
    assert divided.head(torch.zeros(1, features)).shape == (1, words)  # as the model's own forward asks it
    weights = list(divided.model.parameters())
    norms = sum(p.nbytes for p in weights if local_part(p) is p)
    expected = (sum(p.nbytes for p in whole.model.parameters()) - norms) / 2
    assert sum(local_part(p).nbytes for p in weights) - norms == pytest.approx(expected, rel=0.02)


def test_what_ranks_exchange_is_counted(bases: tuple[Base, Base]) -> None:
    whole, divided = bases
    bank, rows = AdapterBank(divided), random_rows(3)
    frozen = experiment("own", lora={"r": 2, "use_lorafa": True, "target_modules": ["q"]})
    setup: Any = SimpleNamespace(
        ranks=SimpleNamespace(size=2), experiments=[frozen], waves=[["own"]], bank=bank
    )
    traffic = predict_traffic(setup, Counter(bank, rows))
    assert traffic is not None
    ups = sum(2 * target.linear.out_features for target in bank.targets_of(frozen.lora))
    assert traffic.reduced_bytes == 4 * ups  # A is not trained
    head, embeddings = whole.head.weight.nbytes, whole.model.get_input_embeddings().weight.nbytes
    layers = sum(p.nbytes for name, p in whole.model.named_parameters() if ".block." in name)
    # Layers there and back, embeddings by encoder and decoder, the head once; of each, the other's half.
    assert traffic.gathered_bytes == pytest.approx((2 * layers + 2 * embeddings + head) / 2, rel=0.02)


def test_gathered_weights_are_part_of_the_memory(bases: tuple[Base, Base]) -> None:
    """A head as buffer and weight, or three layers: two as these, and what is received for the next."""
    whole, divided = bases
    layers: dict[str, int] = {}
    for name, parameter in whole.model.named_parameters():
        stack, _, rest = name.partition(".block.")
        if rest:
            layer = f"{stack}.{rest.partition('.')[0]}"
            layers[layer] = layers.get(layer, 0) + parameter.nbytes
    assert gathered_bytes(divided) == max(2 * whole.head.weight.nbytes, 3 * max(layers.values()))
