"""Adapters on a quantized base, trained by us for 20 steps, equal PEFT's on transformers' quantized base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states
from loraloom.bank.peft_folder import read_adapter, write_adapter
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.ownership import Rows
from tests.parity.rig import experiment, random_rows, stock_model, train_all
from tests.parity.stock_trainer import WITHOUT_DROPOUT, assert_same_as_stock
from tests.quantized import QUIET, quantized, schemes, wide_folder

pytestmark = QUIET
ROWS = random_rows(14, seed=5)


def as_transformers_does(quantization: str) -> dict[str, Any]:
    """What `from_pretrained` is given for the same base."""
    from transformers import BitsAndBytesConfig, TorchAoConfig

    if quantization == "torchao_int8":
        from torchao.quantization import Int8WeightOnlyConfig

        # transformers 5.23 looks for `wo` at the end of a parameter's name, and so quantizes it.
        quantizer: Any = TorchAoConfig(
            Int8WeightOnlyConfig(set_inductor_config=False),
            modules_to_not_convert=[".wo.weight", "head.weight"],
        )
    elif quantization == "nf4":
        quantizer = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    else:
        quantizer = BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": quantizer, "device_map": {"": "cpu"}}


@pytest.mark.parametrize("quantization", schemes())
@pytest.mark.parametrize("kind", ["mt5", "bart"])
def test_training(quantization: str, kind: str, tmp_path: Path) -> None:
    folder = wide_folder(tmp_path / kind, kind)
    base = quantized(folder, quantization)
    each = experiment("main", **WITHOUT_DROPOUT)
    neighbour = experiment("neighbour", **{**WITHOUT_DROPOUT, "lora": {"r": 3, "use_dora": True}})
    ours = train_all(base, [each, neighbour], ROWS, tmp_path / "ours")
    assert_same_as_stock(
        ours,
        base,
        folder,
        each,
        ROWS,
        tmp_path / "stock",
        weights_within=1e-3,
        stock=as_transformers_does(quantization),
    )


@pytest.mark.parametrize("quantization", schemes())
def test_folders_in_both_directions(quantization: str, tmp_path: Path) -> None:
    folder = wide_folder(tmp_path / "mt5")
    base = quantized(folder, quantization)
    each = experiment("main", **WITHOUT_DROPOUT)
    tensors = train_all(base, [each], ROWS, tmp_path / "run").adapter("main")
    bank = AdapterBank(base)
    write_adapter(
        tmp_path / "ours",
        base=base,
        settings=each.lora,
        tensors=tensors,
        available=bank.available,
        origin={},
    )
    stock = stock_model(folder, **as_transformers_does(quantization))
    # In eval mode, bitsandbytes rounds the inputs of int8 too, and reorders the weights of NF4.
    adapted = PeftModel.from_pretrained(stock, tmp_path / "ours").train()
    row = ROWS[3]
    with torch.no_grad():
        wanted = adapted(
            input_ids=torch.from_numpy(row.input_ids).long()[None],
            labels=torch.from_numpy(row.labels).long()[None],
            output_hidden_states=True,
        ).logits[0]
    adapted.save_pretrained(tmp_path / "theirs")
    read = read_adapter(tmp_path / "theirs", base)
    bank.attach("main", read.settings, seed=0, tensors=read.tensors)
    batch = collate([SlotExamples("main", [row])], base.layout)
    with torch.no_grad(), bank.rows(Rows(batch.slots, batch.num_rows)):
        logits = hidden_states(base, batch)[0] @ base.head_weight.T
    bank.drop("main")
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
