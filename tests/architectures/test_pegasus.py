"""Pegasus beyond what holds for every family: where its text begins, and what its files hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from loraloom.architectures.families import FAMILIES
from loraloom.base.loading import Base, load_base
from loraloom.export.transformers_folder import check_dtype, save_model
from tests.tiny import make_folder

POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")


def test_text_begins_behind_the_tokens_of_pretraining(loaded: Callable[[str], Base]) -> None:
    base = loaded("pegasus")
    ids = base.tokenizer("ab 3")["input_ids"]
    assert min(ids[:-1]) >= 105
    assert ids[-1] == base.eos_token_id
    assert base.tokenizer.convert_tokens_to_ids(["<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_102>"]) == [
        *range(4),
        104,
    ]
    assert base.answer_text.texts([ids]) == ["ab 3"]
    assert base.start_token_id == base.pad_token_id == 0
    assert base.answer_text.special_in([0, 1, 2, 3]) == ["<mask_1>", "<mask_2>"]


def test_positions_are_in_its_files_and_stay_there_whatever_they_are(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "base", "pegasus")
    names = load_file(folder / "model.safetensors").keys()
    assert set(POSITIONS) <= names
    base = load_base(str(folder), device="cpu")
    with torch.no_grad():
        for stack in (base.model.get_encoder(), base.model.get_decoder()):
            stack.embed_positions.weight.mul_(0.5)
    save_model(base, tmp_path / "again")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").state_dict()
    for name in POSITIONS:
        assert torch.equal(again[name], base.model.state_dict()[name])


def test_it_is_never_saved_in_float16() -> None:
    assert not FAMILIES["pegasus"].float16
    assert FAMILIES["marian"].float16
    check_dtype("bfloat16", "pegasus")
