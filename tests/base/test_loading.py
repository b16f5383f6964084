"""Loading a base: what is refused and how it is said, and each automatic choice with its reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from loraloom.base.device_and_dtype import choose_device, choose_dtype
from loraloom.base.fingerprints import fingerprint
from loraloom.base.loading import load_base
from loraloom.errors import ModelError
from tests.families import TINY_FAMILIES
from tests.tiny import make_folder

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the tiny mT5, to be spoilt."""
    return Path(shutil.copytree(tiny("mt5"), tmp_path / "model"))


def change_json(path: Path, **values: Any) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    changed = {key: value for key, value in {**config, **values}.items() if value is not None}
    path.write_text(json.dumps(changed), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def complaint(folder: Path | str, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load_base(str(folder), device="cpu", **options)
    return str(caught.value)


def test_a_base_is_frozen_without_dropout_and_in_train_mode(base: Any, kind: str) -> None:
    """Train mode because transformers recomputes activations only there."""
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert all(module.p == 0 for module in base.model.modules() if isinstance(module, nn.Dropout))
    assert all(
        module.dropout == 0
        for module in base.model.modules()
        if isinstance(getattr(module, "dropout", None), float)
    )
    assert base.model.training
    assert base.model_dropout == 0.1
    starts = {"pad": base.pad_token_id, "eos": base.eos_token_id, "bos": base.tokenizer.bos_token_id}
    assert base.start_token_id == starts.get(TINY_FAMILIES[kind].start, base.start_token_id)
    assert base.head_is_tied == TINY_FAMILIES[kind].is_tied
    assert base.family.packs_exactly == TINY_FAMILIES[kind].packs
    assert base.model.config.tie_word_embeddings == base.head_is_tied


def test_a_base_saves_and_loads_as_the_same_base(base: Any, tmp_path: Path) -> None:
    base.model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    again = load_base(str(tmp_path), dtype="float32", device="cpu")
    assert again.fingerprint == base.fingerprint
    assert again.head_is_tied == base.head_is_tied
    assert again.family.output_scale(again.model.config) == base.family.output_scale(base.model.config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/no/such/model", "there is no such folder"),
        ("./no-such-model", "there is no such folder"),
        ("~/no-such-model-here", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("no-such-owner/no-such-model", "its config cannot be loaded"),
    ],
)
def test_what_is_not_there_is_said(name: str, message: str) -> None:
    text = complaint(name)
    assert message in text
    assert text.startswith(f"{name}:")


def test_a_file_and_an_empty_folder_are_no_model(folder: Path, tmp_path: Path) -> None:
    assert "a model is a folder, but this is a file" in complaint(folder / "config.json")
    (tmp_path / "empty").mkdir()
    assert "contains no config.json" in complaint(tmp_path / "empty")


def test_a_causal_model_names_both_architectures(folder: Path) -> None:
    change_json(
        folder / "config.json",
        model_type="llama",
        architectures=["LlamaForCausalLM"],
        is_encoder_decoder=False,
    )
    text = complaint(folder)
    assert "LlamaForCausalLM" in text
    for family in ("t5", "mt5", "umt5"):
        assert family in text
    assert "is a causal (decoder-only) model, but LoRALoom trains encoder-decoders" in text


def test_an_unknown_model_type_is_refused(folder: Path) -> None:
    change_json(folder / "config.json", model_type=None, architectures=None)
    assert "its config.json has no model_type" in complaint(folder)


def test_a_model_with_code_of_its_own_is_refused_before_anything_of_it_runs(folder: Path) -> None:
    change_json(folder / "config.json", auto_map={"AutoModelForSeq2SeqLM": "evil.Model"})
    (folder / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    assert "auto_map" in complaint(folder)


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{", encoding="utf-8")
    assert "config.json cannot be read" in complaint(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:keep])
    assert "its weights cannot be loaded" in complaint(folder)


def test_missing_weights_are_refused_and_named(folder: Path) -> None:
    """transformers would draw them at random and go on."""
    name = "decoder.block.1.layer.1.EncDecAttention.q.weight"
    change_weights(folder, lambda tensors: tensors.pop(name))
    text = complaint(folder)
    assert "1 of its weights are missing" in text
    assert name in text


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    change_weights(folder, lambda tensors: tensors.update({name: torch.zeros(5, 5)}))
    text = complaint(folder)
    assert "weights" in text
    assert str(folder) in text


def test_no_weights_at_all_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "its weights cannot be loaded" in complaint(folder)


def test_pickled_weights_are_refused_unless_allowed(folder: Path, loaded: Any) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    text = complaint(folder)
    assert "has only .bin weights, which are pickles" in text
    assert "allow_bin_weights: true" in text
    base = load_base(str(folder), dtype="float32", device="cpu", allow_bin_weights=True)
    assert base.fingerprint == loaded("mt5").fingerprint


class Malicious:
    """What a pickle can do: run something when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (Path.touch, (self.target,))


def test_allowed_pickles_still_run_nothing(folder: Path, tmp_path: Path) -> None:
    torch.save(
        {**load_file(folder / WEIGHTS), "x": Malicious(tmp_path / "ran")}, folder / "pytorch_model.bin"
    )
    (folder / WEIGHTS).unlink()
    assert "its weights cannot be loaded" in complaint(folder, allow_bin_weights=True)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_larger_than_the_embeddings_is_refused(folder: Path, tmp_path: Path) -> None:
    make_folder(tmp_path / "small", "mt5", vocab_size=100)
    text = complaint(tmp_path / "small")
    assert "more tokens than the model has embeddings" in text
    assert "424 tokens, 100 embeddings" in text


@pytest.mark.parametrize("token", ["pad", "eos"])
def test_a_tokenizer_without_a_token_it_needs_is_refused(folder: Path, token: str) -> None:
    change_json(folder / "tokenizer_config.json", **{f"{token}_token": None})
    assert f"its tokenizer has no {token} token" in complaint(folder)


def test_a_damaged_tokenizer_is_refused(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    assert "its tokenizer cannot be loaded" in complaint(folder)


def test_the_decoder_starts_with_padding_where_the_config_does_not_say(folder: Path) -> None:
    change_json(folder / "config.json", decoder_start_token_id=None)
    assert load_base(str(folder), device="cpu").start_token_id == 0


def test_the_fingerprint_is_one_for_every_dtype_and_differs_for_other_weights(
    tiny: Callable[[str], Path], loaded: Any, tmp_path: Path
) -> None:
    known = {kind: loaded(kind).fingerprint for kind in ("mt5", "t5", "umt5")}
    assert len(set(known.values())) == 3
    half = load_base(str(tiny("mt5")), dtype="bfloat16", device="cpu")
    assert half.model.dtype == torch.bfloat16
    assert half.fingerprint == known["mt5"]
    other = load_base(str(make_folder(tmp_path / "other", "mt5", seed=1)), device="cpu")
    assert other.fingerprint != known["mt5"]
    assert other.tokenizer_fingerprint == half.tokenizer_fingerprint


def test_the_fingerprint_sees_one_changed_tensor_and_a_swapped_name(tiny: Callable[[str], Path]) -> None:
    base = load_base(str(tiny("mt5")), device="cpu")
    q, k = (base.model.get_submodule(f"encoder.block.0.layer.0.SelfAttention.{n}") for n in "qk")
    with torch.no_grad():
        q.weight[0, 0] += 1.0
    assert fingerprint(base.model) != base.fingerprint
    with torch.no_grad():
        q.weight[0, 0] -= 1.0
    q.weight, k.weight = k.weight, q.weight
    assert fingerprint(base.model) != base.fingerprint


def test_the_tokenizers_fingerprint_sees_a_changed_vocabulary(folder: Path, loaded: Any) -> None:
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    vocabulary = json.loads(text)["model"]["vocab"]
    swapped = text.replace('"a": ', '"_": ').replace('"b": ', '"a": ').replace('"_": ', '"b": ')
    assert vocabulary != json.loads(swapped)["model"]["vocab"]
    (folder / "tokenizer.json").write_text(swapped, encoding="utf-8")
    assert load_base(str(folder), device="cpu").tokenizer_fingerprint != loaded("mt5").tokenizer_fingerprint


LARGE, SMALL = 1_200_000_000, 20_000_000  # weights


@pytest.mark.parametrize(
    ("capabilities", "dtype", "reason"),
    [
        ({"amx_bf16": True}, "bfloat16", "amx_bf16"),
        ({"avx512_bf16": True}, "bfloat16", "avx512_bf16"),
        ({"avx2": True, "amx_bf16": False}, "float32", "no bfloat16 instructions"),
        ({}, "float32", "no bfloat16 instructions"),
    ],
)
def test_a_processor_gets_bfloat16_where_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], dtype: str, reason: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    choice = choose_dtype("auto", torch.device("cpu"), LARGE)
    assert choice.value == dtype
    assert reason in choice.reason
    assert choose_dtype("auto", torch.device("cpu"), SMALL).value == "float32"
    assert "small" in choose_dtype("auto", torch.device("cpu"), SMALL).reason


@pytest.mark.parametrize(("real", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_gpu_gets_bfloat16_only_where_it_is_no_emulation(
    monkeypatch: pytest.MonkeyPatch, real: bool, dtype: str
) -> None:
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: True if including_emulation else real,
    )
    assert choose_dtype("auto", torch.device("cuda"), LARGE).value == dtype
    assert choose_dtype("auto", torch.device("mps"), LARGE).value == "float32"


def test_what_the_recipe_says_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    choice = choose_dtype("bfloat16", torch.device("cpu"), SMALL)
    assert (choice.value, choice.reason) == ("bfloat16", "as set in the recipe")
    assert choose_device("cpu").value == "cpu"


def test_devices_are_chosen_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").value == "cpu"
    assert "no GPU" in choose_device("auto").reason
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_device("auto").reason.endswith("; 1 thread")
    for absent in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ModelError, match="the device is not available"):
            choose_device(absent)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto").value == "cpu"  # never run there
    assert choose_device("mps").value == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    assert choose_device("auto").value == "cuda"
    assert "Some GPU" in choose_device("auto").reason
    assert choose_device("cuda:1").value == "cuda:1"
    with pytest.raises(ModelError, match=r"cuda:2.*2 CUDA devices"):
        choose_device("cuda:2")


def test_the_estimate_of_a_models_size_is_near(base: Any) -> None:
    """Within a fifth, feed-forward and attention counted; the tiny models' embeddings weigh most."""
    actual = sum(parameter.numel() for parameter in base.model.parameters())
    if base.head_is_tied:
        actual += base.head.weight.numel()
    assert base.dimensions.num_weights == pytest.approx(actual, rel=0.2)


def test_a_small_model_is_computed_in_float32(tiny: Callable[[str], Path]) -> None:
    base = load_base(str(tiny("t5")), device="cpu")
    assert base.model.dtype == torch.float32
    assert base.choices["dtype"].value == "float32"
    assert base.choices["device"].reason == "as set in the recipe"


def test_transformers_is_quiet_while_loading_and_as_loud_as_before_after(
    tiny: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its warning that an untied head contradicts its forced flag would frighten every mt0 user."""
    import logging

    level, folder = logging.getLogger("transformers").level, tiny("flan")
    capfd.readouterr()
    load_base(str(folder), device="cpu")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == level
    assert transformers.utils.logging.is_progress_bar_enabled()
