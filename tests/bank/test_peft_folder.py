"""Adapter folders that are missing, damaged, of another base, or of a kind that the bank does not compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_base import portable_name
from loraloom.bank.peft_folder import read_adapter, write_adapter
from loraloom.base.loading import Base
from loraloom.errors import AdapterError
from tests.parity.rig import attach_speaking

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def folder(mt5: Base, tmp_path: Path) -> Path:
    bank = AdapterBank(mt5)
    settings = attach_speaking(bank, "a", seed=1, r=3, target_modules=["q", "v"])
    write_adapter(
        tmp_path / "a",
        base=mt5,
        settings=settings,
        tensors=bank.tensors("a"),
        available=bank.available,
        origin={},
    )
    bank.drop("a")
    return tmp_path / "a"


# LoraConfig, PeftConfig and their mixin in PEFT 0.10.0 (src/peft/tuners/lora/config.py, src/peft/config.py).
# Any other key is a TypeError there. `make compat` loads our adapters in 0.10, 0.12 and 0.15.
KNOWN_TO_PEFT_0_10 = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
}


@pytest.mark.parametrize(
    "lora", [{}, {"use_rslora": True, "lora_dropout": 0.1}, {"target_modules": r"decoder\..*\.q"}]
)
def test_our_configuration_has_no_key_that_an_older_peft_does_not_know(
    mt5: Base, tmp_path: Path, lora: dict[str, Any]
) -> None:
    bank = AdapterBank(mt5)
    settings = attach_speaking(bank, "a", seed=1, r=3, lora_alpha=2.5, **lora)
    write_adapter(
        tmp_path / "a",
        base=mt5,
        settings=settings,
        tensors=bank.tensors("a"),
        available=bank.available,
        origin={},
    )
    bank.drop("a")
    values = json.loads((tmp_path / "a" / CONFIG).read_text(encoding="utf-8"))
    assert values.keys() <= KNOWN_TO_PEFT_0_10
    assert None not in values.values()
    # Read by this version, it is the same as what this version would have written.
    written = LoraConfig.from_pretrained(tmp_path / "a").to_dict()
    usual = LoraConfig().to_dict()
    assert {key for key, value in written.items() if value != usual[key]} <= values.keys()
    assert (written["r"], written["lora_alpha"], written["use_rslora"]) == (3, 2.5, settings.use_rslora)


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, **values}), encoding="utf-8")


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor], str], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors, sorted(tensors)[0])
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modules_to_save", ["lm_head"]),
        ("fan_in_fan_out", True),
        ("bias", "all"),
        ("layer_replication", [[0, 2]]),
        ("use_qalora", True),
        ("alora_invocation_tokens", [3]),
        ("arrow_config", {"top_k": 1}),
        ("target_parameters", ["x"]),
    ],
)
def test_what_the_bank_does_not_compute_is_refused(folder: Path, key: str, value: Any) -> None:
    change_config(folder, **{key: value})
    with pytest.raises(AdapterError, match=f"uses `{key}`"):
        read_adapter(folder)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "OLoRA", "corda", "loftq", "lora_ga"])
def test_an_adapter_whose_training_moved_the_base_is_refused(folder: Path, init: str) -> None:
    change_config(folder, init_lora_weights=init)
    with pytest.raises(AdapterError, match=rf"changed the base's own weights.*{init}"):
        read_adapter(folder)


@pytest.mark.parametrize("init", [True, False, "gaussian", "orthogonal", "eva", None])
def test_other_starts_are_read(folder: Path, init: Any) -> None:
    change_config(folder, init_lora_weights=init)
    assert read_adapter(folder).settings.r == 3


def test_another_kind_of_adapter_is_refused(folder: Path) -> None:
    change_config(folder, peft_type="IA3")
    with pytest.raises(AdapterError, match=r"not a LoRA adapter.*IA3"):
        read_adapter(folder)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda f: [*map(Path.unlink, f.iterdir())], "has no adapter_config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "has no adapter_model.safetensors"),
    "a pickle": (lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"), "a pickle, which is not loaded"),
    "no JSON": (lambda f: (f / CONFIG).write_text("{"), "adapter_config.json cannot be read"),
    "a list": (lambda f: (f / CONFIG).write_text("[]"), "is not a JSON object"),
    "binary": (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00"), "adapter_config.json cannot be read"),
    "cut": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-7]), "is damaged"),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "is damaged"),
    "rank": (lambda f: change_config(f, r="three"), "the adapter's configuration is invalid"),
    "alpha": (lambda f: change_config(f, lora_alpha=-1), "the adapter's configuration is invalid"),
    "half": (lambda f: change_tensors(f, lambda t, n: t.pop(n)), "1 modules lack their A or their B"),
    "none": (lambda f: change_tensors(f, lambda t, n: t.clear()), "contains no tensors"),
    "nan": (lambda f: change_tensors(f, lambda t, n: t[n][0].fill_(torch.nan)), "NaN or infinite"),
    "foreign": (
        lambda f: change_tensors(f, lambda t, n: t.update({"base_model.model.x.bias": t[n].clone()})),
        "not part of a LoRA adapter",
    ),
    "unprefixed": (
        lambda f: change_tensors(f, lambda t, n: t.update({n.removeprefix("base_model."): t.pop(n)})),
        "not part of a LoRA adapter",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said(folder: Path, damage: str) -> None:
    spoil, message = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(AdapterError, match=message) as caught:
        read_adapter(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fingerprint": "f" * 64}, "another base model"),
        ({"tokenizer_fingerprint": "f" * 64}, "another vocabulary"),
    ],
)
def test_another_base_is_refused_where_the_adapter_remembers_its_own(
    folder: Path, mt5: Base, other: dict[str, str], message: str
) -> None:
    read_adapter(folder, mt5)
    with pytest.raises(AdapterError, match=message):
        read_adapter(folder, replace(mt5, **other))  # type: ignore[arg-type]
    (folder / "loraloom.json").unlink()  # as in a folder of PEFT's own
    assert read_adapter(folder, replace(mt5, **other)).origin == {}  # type: ignore[arg-type]


def test_a_failed_write_leaves_the_adapter_that_was_there(
    folder: Path, mt5: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    adapter = read_adapter(folder)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("loraloom.bank.peft_folder.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_adapter(
            folder,
            base=mt5,
            settings=adapter.settings,
            tensors={name: tensor + 1 for name, tensor in adapter.tensors.items()},
            available=AdapterBank(mt5).available,
            origin={},
        )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_names_are_portable(tmp_path: Path) -> None:
    assert portable_name("google/mt5-small") == "google/mt5-small"
    assert portable_name("starter") == "starter"
    assert portable_name(str(tmp_path / "somewhere" / "my-model")) == "my-model"
    assert portable_name("./models/mine") == "mine"
    assert portable_name("~/models/mine") == "mine"
