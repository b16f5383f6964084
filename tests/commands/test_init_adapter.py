"""Going on from an adapter that PEFT wrote: the article's own, whose list names what a gated base lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from loraloom.commands.check import check
from loraloom.commands.train import train
from loraloom.errors import AdapterError
from loraloom.recipe.reading import parse_recipe
from tests.commands.trained import ROWS
from tests.events import message_of
from tests.parity.rig import stock_model

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def article(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """Its adapter beside rows to go on with."""
    torch.manual_seed(5)
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q", "v", "k", "o", "wi", "wo"],
        task_type="SEQ_2_SEQ_LM",
        init_lora_weights=False,
    )
    get_peft_model(stock_model(tiny("mt5")), lora).save_pretrained(tmp_path / "article")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    return tmp_path / "article"


def recipe(base: Path, **lora: Any) -> Any:
    values = {
        "model_name_or_path": str(base),
        "data": {"train": "rows.json", "eval": 6, "max_target_length": 16},
        "lora": {"r": 4, "lora_alpha": 8, "init_adapter": "article", **lora},
        "training": {"learning_rate": 1e-5, "max_steps": 1, "save_strategy": "no"},
        "device": "cpu",
    }
    return parse_recipe(json.dumps(values), name="recipe")


def test_training_goes_on_from_the_articles_adapter_and_says_what_it_lacks(
    article: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    told: list[str] = []

    outcome = train(
        recipe(tiny("mt5"), target_modules=["q", "v", "k", "o", "wo"]).in_folder(tmp_path),
        out=tmp_path / "run",
        report=lambda event: told.append(message_of(event)),
    )
    assert [note for note in told if "no linear of this base matches `wi` in the adapter's" in note]
    before = load_file(article / "adapter_model.safetensors")
    after = load_file(outcome.run.adapters / "main" / "adapter_model.safetensors")
    assert after.keys() == before.keys()
    assert max(float((after[name] - before[name]).abs().max()) for name in after) < 1e-4
    config = json.loads((outcome.run.adapters / "main" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["target_modules"] == ["k", "o", "q", "v", "wo"]


@pytest.mark.parametrize("targets", ["all-linear", ["q", "v"]])
def test_other_targets_are_refused_with_those_to_set(
    article: Path, tiny: Callable[[str], Path], tmp_path: Path, targets: Any
) -> None:
    with pytest.raises(AdapterError, match=r"Set lora\.target_modules: \[k, o, q, v, wo\]"):
        check(recipe(tiny("mt5"), target_modules=targets).in_folder(tmp_path))


def test_layers_to_transform_are_told_as_an_expression(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    lora = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q", "v"],
        layers_to_transform=[1],
        layers_pattern=["block"],  # without it, PEFT 0.19 counts `layer.1` of every block
        task_type="SEQ_2_SEQ_LM",
    )
    get_peft_model(stock_model(tiny("mt5")), lora).save_pretrained(tmp_path / "article")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(AdapterError, match=r"Set lora\.target_modules: '\(dec") as caught:
        check(recipe(tiny("mt5"), target_modules=["q", "v"]).in_folder(tmp_path))
    expression = str(caught.value).split("'")[1]
    assert expression == r"(decoder|encoder)\.block\.1\..*\.(q|v)"
    findings = check(recipe(tiny("mt5"), target_modules=expression).in_folder(tmp_path))
    assert not [finding for finding in findings if finding.level == "error"]
