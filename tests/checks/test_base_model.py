"""What a base is, told right; and every hazard found where it was put in."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.base.loading import Base, load_base
from loraloom.checks.finding import Finding
from loraloom.checks.gate import run_gate
from loraloom.checks.model_suite import GATE, MODEL
from loraloom.data.encoding import EncodedSet
from loraloom.errors import ModelError
from tests.parity.rig import EOS, experiment, random_rows

ROWS = random_rows(10, seed=5)


def found(base: Base, *checks: str, rows: EncodedSet = ROWS, targets: Any = "all-linear") -> list[Finding]:
    experiments = [experiment("a", lora={"r": 2, "target_modules": targets})]
    every = run_gate(base, experiments, {}, rows, packing=True, checks=(*MODEL, *GATE))
    return [finding for finding in every if finding.check in checks]


def test_a_base_in_order_has_one_ok_line_a_check(base: Base) -> None:
    lines = found(base, "head", "dtype", "tokenizer", "special-tokens")
    assert [finding.level for finding in lines] == ["ok"] * 4


def test_the_head_is_told_from_the_weights(loaded: Callable[[str], Base]) -> None:
    (tied,), (own,) = found(loaded("t5"), "head"), found(loaded("mt5"), "head")
    assert tied.message.startswith(
        "tied: the embedding is also the output head; hidden states are scaled by 0.177"
    )
    assert own.message.startswith("not tied")
    assert "scale the logits wrongly" in own.message


def test_what_stays_in_float32_is_said_for_a_bfloat16_base(mt5: Base) -> None:
    (finding,) = found(mt5, "dtype")
    assert finding.message == "base, adapters and AdamW's moments are float32"
    half = dataclasses.replace(mt5, model=copy.deepcopy(mt5.model).to(torch.bfloat16))
    (finding,) = found(half, "dtype")
    assert "the base computes in bfloat16" in finding.message
    assert "AdamW's moments are float32" in finding.message


class Changed:
    """A tokenizer with some answers of its own."""

    def __init__(self, real: Any, **answers: Any) -> None:
        self._real, self._answers = real, answers

    def __getattr__(self, name: str) -> Any:
        return self._answers[name] if name in self._answers else getattr(self._real, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._answers.get("__call__", self._real)(*args, **kwargs)


def with_tokenizer(base: Base, **answers: Any) -> Base:
    changed: Any = Changed(base.tokenizer, **answers)
    return dataclasses.replace(base, tokenizer=changed)


def test_a_token_without_an_embedding_is_found_before_it_crashes_a_pass(mt5: Base) -> None:
    """A vocabulary with a hole has no more tokens than embeddings, and ids beyond them."""
    vocabulary = {"a": 0, "b": 1, "c": 424, "d": 430}
    sabotaged = with_tokenizer(mt5, get_vocab=lambda: vocabulary)
    rows = EncodedSet([[430, EOS]] * 4, [[430, EOS]] * 4)
    every = run_gate(sabotaged, [experiment("a")], {}, rows, packing=True, checks=(*MODEL, *GATE))
    (finding,) = [each for each in every if each.level == "error"]
    assert finding.check == "tokenizer"
    assert "2 of the tokenizer's 4 tokens are beyond the 424 embeddings" in finding.message


def test_spare_embeddings_are_counted(mt5: Base) -> None:
    (finding,) = found(with_tokenizer(mt5, get_vocab=lambda: {str(n): n for n in range(400)}), "tokenizer")
    assert finding.level == "ok"
    assert "24 embeddings belong to no token" in finding.message


def test_padding_that_is_the_end_is_a_hazard(mt5: Base) -> None:
    lines = found(with_tokenizer(mt5, pad_token_id=EOS), "special-tokens")
    assert "warning" in {finding.level for finding in lines}
    assert any("are the same token, </s> (1)" in finding.message for finding in lines)


def test_an_unusual_start_token_is_noted(mt5: Base) -> None:
    config = mt5.model.config
    config.decoder_start_token_id = 5
    try:
        (finding,) = found(mt5, "special-tokens")
    finally:
        config.decoder_start_token_id = 0
    assert finding.level == "note"
    assert "decoder_start_token_id" in finding.fix


def test_a_tokenizer_that_does_not_end_texts_is_noted(mt5: Base) -> None:
    def without_end(*args: Any, **kwargs: Any) -> Any:
        return {"input_ids": mt5.tokenizer(*args, **kwargs)["input_ids"][:-1]}

    (finding,) = found(with_tokenizer(mt5, __call__=without_end), "special-tokens")
    assert finding.level == "note"
    assert "LoRALoom adds it" in finding.message


@pytest.mark.parametrize("file", ["config", "generation_config"])
def test_a_config_with_another_end_is_found(mt5: Base, file: str) -> None:
    config = getattr(mt5.model, file)
    config.eos_token_id = 7
    try:
        (finding,) = found(mt5, "special-tokens")
    finally:
        config.eos_token_id = EOS
    assert finding.level == "warning"
    assert f"{file}.json sets eos_token_id to 7, but the tokenizer sets it to 1" in finding.message
    assert "not stop where it is trained to" in finding.message


def test_one_of_several_ends_is_enough(mt5: Base) -> None:
    config = mt5.model.generation_config
    config.eos_token_id = [7, EOS]
    try:
        (finding,) = found(mt5, "special-tokens")
    finally:
        config.eos_token_id = EOS
    assert finding.level == "ok"


def test_a_base_that_is_worse_than_chance_is_noted(mt5: Base) -> None:
    """As mT5 is on its first day, and every model with a wrong head."""
    head = mt5.head.weight
    try:
        with torch.no_grad():
            head.mul_(30)
        (finding,) = found(mt5, "loss")
    finally:
        with torch.no_grad():
            head.div_(30)
    assert finding.level == "note"
    assert "worse than a uniform guess among all tokens, which gives 6.05" in finding.message


def test_modules_without_a_gradient_are_grouped_with_the_reason(mt5: Base) -> None:
    """A feed-forward that is multiplied with zeros, in one of two layers."""
    dead = mt5.model.get_submodule("decoder.block.1.layer.2.DenseReluDense.wo").weight
    original = dead.clone()
    try:
        with torch.no_grad():
            dead.zero_()
        (finding,) = found(mt5, "gradient", targets=["wi_0", "wi_1"])
    finally:
        with torch.no_grad():
            dead.copy_(original)
    assert finding.level == "warning"
    assert "2 of 8 modules get no gradient, decoder wi_0 (1 of 2), decoder wi_1 (1 of 2)" in finding.message
    assert "the first one is decoder.block.1.layer.2.DenseReluDense.wi_0" in finding.message
    assert "the base's `wo` in the same layer is all zeros" in finding.message


def test_attention_over_one_token_has_nothing_to_choose(mt5: Base) -> None:
    rows = EncodedSet([[EOS]] * 4, [[6, 7, EOS]] * 4)
    (finding,) = found(mt5, "gradient", rows=rows, targets=["q", "k"])
    assert "encoder q (2 of 2)" in finding.message
    assert "cross k (2 of 2)" in finding.message
    assert "decoder q" not in finding.message
    assert "attention over a single token" in finding.message


def test_60_a_tokenizer_without_padding_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("mt5"), tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="its tokenizer has no pad token"):
        load_base(str(folder), dtype="float32", device="cpu")
