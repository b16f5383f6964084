"""Adapters of others: what can be known of the base that they were made for is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from loraloom.bank.peft_base import is_same_name
from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from tests.parity.rig import stock_model
from tests.tiny import make_folder

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
CONFIG = "adapter_config.json"
BLOCKS = {"layers_pattern": ["block"]}  # without it, PEFT 0.19 counts `layer.1` of every block
UNVERIFIED = "it cannot be verified that these are the weights it was trained on"

MadeFor = Callable[..., Path]


@pytest.fixture(scope="module")
def made_for(tmp_path_factory: pytest.TempPathFactory) -> MadeFor:
    """`made_for(encoder, decoder, …)` → what PEFT saves on a model with so many layers."""
    made: dict[str, Path] = {}

    def adapter(encoder: int, decoder: int, **config: Any) -> Path:
        key = repr((encoder, decoder, config))
        if key not in made:
            folder = tmp_path_factory.mktemp("deep")
            model = make_folder(folder / "other-base", "mt5", num_layers=encoder, num_decoder_layers=decoder)
            lora = LoraConfig(r=2, task_type="SEQ_2_SEQ_LM", **({"target_modules": ["q", "v"]} | config))
            get_peft_model(stock_model(model), lora).save_pretrained(folder / "theirs")
            made[key] = folder / "theirs"
        return made[key]

    return adapter


@pytest.mark.parametrize(
    ("layers", "config", "message"),
    [
        ((1, 1), {}, "was made for a model with 1 encoder and 1 decoder layers; this base has 2 and 2"),
        ((3, 3), {}, "was made for a model with 3 encoder and 3 decoder layers; this base has 2 and 2"),
        ((2, 4), {}, "was made for a model with 2 encoder and 4 decoder layers; this base has 2 and 2"),
        ((2, 1), {}, "was made for a model with 2 encoder and 1 decoder layers; this base has 2 and 2"),
        ((1, 1), {"target_modules": r"decoder\..*\.q"}, "with at least 1 decoder layers; this base has 2"),
        (
            (4, 4),
            {"layers_to_transform": [2], "layers_pattern": ["block"]},
            "with at least 3 encoder and 3 decoder layers",
        ),
    ],
)
def test_an_adapter_of_a_model_with_other_layers_is_refused_with_their_numbers(
    mt5: Base, made_for: MadeFor, layers: tuple[int, int], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(AdapterError) as refused:
        read_adapter(made_for(*layers, **config), mt5)
    said = str(refused.value)
    assert message in said
    assert "Use the adapter with the base that it was trained on, other-base." in said
    assert "target_modules" not in said


def test_layers_that_an_adapter_leaves_out_on_purpose_are_no_other_model(
    mt5: Base, made_for: MadeFor
) -> None:
    for adapter, counts in (
        (
            made_for(2, 2, layers_to_transform=[0], **BLOCKS),
            "1 encoder and 1 decoder layers, but this base has 2 and 2",
        ),
        (
            made_for(2, 2, target_modules=r"decoder\.block\.0\..*\.q"),
            "1 decoder layers, but this base has 2;",
        ),
        # PEFT writes every linear's whole path for all-linear: nothing lacks.
        (made_for(1, 1, target_modules="all-linear"), "1 encoder and 1 decoder layers, but this base has 2"),
    ):
        unverified, fewer = read_adapter(adapter, mt5).notes
        assert UNVERIFIED in unverified
        assert f"has tensors for {counts}" in fewer
        assert "wrong if the adapter was made for a smaller model" in fewer


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("google/mt5-small", "was made for google/mt5-small, but is used with here"),
        ("/home/somebody/models/mt5-small", "was made for mt5-small, but is used with here"),
        (r"D:\models\mt5-small", "was made for mt5-small, but is used with here"),
        ("mine/here", "names mine/here as its base, which matches"),
        ("/elsewhere/here/", "names here as its base, which matches"),
        ("/c/hub/models--mine--here/snapshots/0a1b", "names mine/here as its base, which matches"),
        ("/c/hub/models--google--mt5-base/snapshots/0a1b", "was made for google/mt5-base, but is used with"),
        (None, "names no base"),
        ("", "names no base"),
        (7, "names no base"),
    ],
)
def test_an_adapter_without_a_fingerprint_says_what_is_known_of_its_base(
    mt5: Base, made_for: MadeFor, tmp_path: Path, named: Any, said: str
) -> None:
    folder = Path(shutil.copytree(made_for(2, 2), tmp_path / "theirs"))
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": named}), encoding="utf-8")
    (note,) = read_adapter(folder, replace(mt5, name=str(tmp_path / "here"))).notes
    assert said in note
    assert UNVERIFIED in note
    assert "somebody" not in note


def test_an_adapter_with_a_fingerprint_needs_no_name(mt5: Base, made_for: MadeFor, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made_for(2, 2), tmp_path / "ours"))
    (folder / "loraloom.json").write_text(json.dumps({"base_fingerprint": mt5.fingerprint}), encoding="utf-8")
    assert read_adapter(folder, mt5).notes == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("google/mt5-small", "google/mt5-small", True),
        ("Google/mT5-small", "google/mt5-small", True),
        ("google/mt5-small", "./mt5-small", True),
        ("google/mt5-small", "/data/mt5-small", True),
        ("mt5-small", "google/mt5-small", True),
        ("/x/models--google--mt5-small/snapshots/1f", "google/mt5-small", True),
        ("/x/models--google--mt5-small/snapshots/1f", "/x/models--google--mt5-small/snapshots/2e", True),
        ("google/flan-t5-base", "mine/flan-t5-base", False),
        ("google/mt5-small", "google/mt5-base", False),
        ("/data/mt5-small", "/data/mt5-base", False),
    ],
)
def test_names_of_one_model_are_one(one: str, other: str, same: bool) -> None:
    assert is_same_name(one, other) is same
    assert is_same_name(other, one) is same
