"""Merging tensor by tensor computes what merging in place does, for every variant of LoRA."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import merge_adapter, round_weights
from loraloom.bank.tensor_merge import TensorMerge, names_by_place
from loraloom.base.loading import Base, load_base
from loraloom.base.mapped_weights import STORED
from loraloom.recipe import LoraSettings
from tests.parity.rig import speaking_tensors, unwrap
from tests.parity.variants import VARIANTS

SMALL_PIECES = 1000


@pytest.fixture(scope="module")
def load_mapped(tiny: Callable[[str], Path]) -> Callable[[str], Base]:
    """Loads the base of each kind as it is stored, once."""
    return functools.cache(lambda kind: load_base(str(tiny(kind)), dtype=STORED, device="cpu"))


@pytest.fixture
def mapped_base(kind: str, load_mapped: Callable[[str], Base]) -> Iterator[Base]:
    """The base as it is stored; what a failed test left attached is taken off."""
    yield load_mapped(kind)
    unwrap(load_mapped(kind))


@pytest.mark.parametrize("kind", ["mt5", "t5", "bart"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_as_merged_in_place(
    kind: str,
    variant: str,
    dtype: torch.dtype,
    loaded: Callable[[str], Base],
    mapped_base: Base,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loraloom.bank.tensor_merge.WEIGHTS_TOGETHER", SMALL_PIECES)
    settings = settings_of(kind, variant)
    # Merging in place changes the one for good, and merging tensor by tensor must leave the other.
    copied = replace(loaded(kind), model=copy.deepcopy(loaded(kind).model))
    whole, mapped = AdapterBank(copied), AdapterBank(mapped_base)
    tensors = speaking_tensors(whole, settings, seed=1)
    before = {name: tensor.clone() for name, tensor in mapped.base.model.state_dict().items()}
    for bank in (whole, mapped):
        bank.attach("own", settings, seed=0, tensors=tensors)
    merged = merge_adapter(whole, "own")
    rounding = round_weights(whole.base.model, merged, dtype)
    merge = TensorMerge(mapped, "own")
    state = mapped.base.model.state_dict()
    wanted = whole.base.model.state_dict()
    for names in names_by_place(state).values():  # each once: a tied table has several names
        found = torch.cat(list(merge.pieces(state[names[0]], dtype)))
        for name in names:
            assert torch.equal(found.float(), wanted[name].view(-1)), name
    assert merge.num_waiting == 0
    assert merge.num_linears == len(merged.modules)
    assert merge.largest_error == pytest.approx(merged.largest_error)
    assert merge.rounding_beside_update == pytest.approx(rounding)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.items())


def settings_of(kind: str, variant: str) -> LoraSettings:
    changes = dict(VARIANTS[variant])
    if variant == "bias" and kind != "bart":
        pytest.skip("its linears have no bias to merge into")
    if kind == "bart":  # the names that its modules have
        own = {
            "modules_to_save": ["final_layer_norm"],
            "alpha_pattern": {"q_proj": 3},
            "rank_pattern": {"fc1": 6},
        }
        changes |= {key: value for key, value in own.items() if key in changes}
    return LoraSettings(**{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **changes})
