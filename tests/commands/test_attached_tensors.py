"""What answers holds each adapter's tensors once, beside what a pass stacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import Adapter
from loraloom.base.loading import Base
from loraloom.recipe import LoraSettings
from loraloom.session.answering_model import load_run
from loraloom.session.answering_ranks import with_tensors_of_bank
from tests.parity.rig import speaking_tensors


def test_the_bank_holds_the_tensors_of_attached_adapters(mt5: Base) -> None:
    bank, settings = AdapterBank(mt5), LoraSettings(r=2, target_modules="all-linear")
    tensors = speaking_tensors(bank, settings, seed=1)
    bank.attach("own", settings, seed=0, tensors=tensors)
    adapter = Adapter(Path("own"), settings, tensors, {"answer_tokens": ["<x>"]})
    held = with_tensors_of_bank(bank, {"own": adapter})["own"]
    assert (held.folder, held.settings, held.origin) == (adapter.folder, adapter.settings, adapter.origin)
    assert held.tensors.keys() == tensors.keys()
    parameters = {parameter.data_ptr() for parameter in bank.parameters("own")}
    for name, tensor in held.tensors.items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.data_ptr() in parameters


def test_a_run_that_was_loaded_to_answer_has_no_second_copy(trained: Callable[..., Path]) -> None:
    loaded = load_run(trained("mt5"))
    (name,) = loaded.adapters
    parameters = {parameter.data_ptr() for parameter in loaded.bank.parameters(name)}
    assert {tensor.data_ptr() for tensor in loaded.adapters[name].tensors.values()} == parameters
