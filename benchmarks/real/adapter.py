"""A published LoRA adapter of T5-large, read and attached to a base of its shape with random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import hidden_states
from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import load_base
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.encoding import encode
from loraloom.data.example import Example
from loraloom.data.ownership import Rows

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
QUESTION = "Is this sentence biased?"


def read_published_adapter(package: Path, work: Path) -> dict[str, Any]:
    """Read the adapter, attach it to a base of T5-large's attention, and return what it comes to.

    The base itself is in the hub. The feed-forward, which the adapter does not touch, is narrow: with its
    true width the base takes 3 GB.
    """
    adapter_folder = package / "bias-detector-output"
    folder = work / "t5-large-attention"
    if not folder.is_dir():
        torch.manual_seed(0)
        config = T5Config(
            vocab_size=32_128,
            d_model=1024,
            d_kv=64,
            d_ff=64,
            num_layers=24,
            num_heads=16,
            decoder_start_token_id=0,
        )
        model = T5ForConditionalGeneration(config).to(torch.bfloat16)
        model.generation_config = GenerationConfig(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0)
        model.save_pretrained(folder)
        for name in TOKENIZER_FILES:
            shutil.copyfile(adapter_folder / name, folder / name)
    base = load_base(str(folder), device="cpu")
    adapter = read_adapter(adapter_folder, base)
    bank = AdapterBank(base)
    bank.attach("published", adapter.settings, seed=0, tensors=adapter.tensors)
    example = Example(QUESTION, "biased", "", row=1, line=1, turn=0, group="")
    rows = encode([example], base.tokenizer, max_source_length=64, max_target_length=64)
    batch = collate([SlotExamples(None, list(rows)), SlotExamples("published", list(rows))], base.layout)
    with torch.no_grad(), bank.rows(Rows((None, "published"), (1, 1))):
        plain, adapted = hidden_states(base, batch)
    return {
        "tensors": len(adapter.tensors),
        "r": adapter.settings.r,
        "scaling": adapter.settings.scaling,
        "linears": len(bank.parts("published")),
        "states_move": float((adapted - plain).float().norm() / plain.float().norm()),
        "question": QUESTION,
        "tokens": base.tokenizer.convert_ids_to_tokens(rows[0].input_ids.tolist()),
    }
