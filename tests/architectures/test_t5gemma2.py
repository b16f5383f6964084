"""T5Gemma 2 beyond T5Gemma: linears that a pass uses twice, a tower that is left alone, names in files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from loraloom.architectures.t5gemma import T5Gemma2
from loraloom.bank.bank import AdapterBank
from loraloom.bank.merging import MergeReport, round_weights
from loraloom.bank.objective import example_losses, hidden_states
from loraloom.bank.peft_folder import WEIGHTS, read_adapter, write_adapter
from loraloom.base.loading import Base, load_base
from loraloom.base.targets import linears, other_linears, resolve_targets
from loraloom.checks.adapters import check_targets
from loraloom.checks.gate import run_gate
from loraloom.errors import AdapterError, ModelError, TargetError
from loraloom.export import transformers_folder
from loraloom.export.transformers_folder import save_model
from tests.architectures.test_t5gemma import own_losses
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    experiment,
    losses_and_gradients,
    random_rows,
    recomputing,
    unwrap,
)
from tests.tiny import make_folder

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
ROWS = list(random_rows(9, seed=3))
DROPPING = {"r": 2, "lora_dropout": 0.3}


@pytest.fixture
def t5gemma2(loaded: Callable[[str], Base]) -> Any:
    yield loaded("t5gemma2")
    unwrap(loaded("t5gemma2"))


@torch.no_grad()
def test_packed_rows_are_the_models_own_forward(t5gemma2: Base) -> None:
    packed, padded = (batch_of(t5gemma2, {None: ROWS}, packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels)
    wanted = own_losses(t5gemma2, ROWS)
    for batch in (packed, padded):
        torch.testing.assert_close(example_losses(t5gemma2, batch)[0], wanted, rtol=1e-5, atol=1e-5)


def test_the_decoders_keys_and_values_read_target_rows_and_then_source_rows(t5gemma2: Base) -> None:
    seen: dict[str, list[int]] = {}
    twice = {t.name: t for t in linears(t5gemma2.model, t5gemma2.family) if len(t.sides) == 2}
    assert len(twice) == 2 * t5gemma2.dimensions.num_layers[1]
    hooks = [
        target.module.register_forward_hook(
            lambda module, args, out, name=name: seen.setdefault(name, []).append(args[0].shape[1])
        )
        for name, target in twice.items()
    ]
    batch = batch_of(t5gemma2, {None: ROWS})
    with torch.no_grad():
        hidden_states(t5gemma2, batch)
    for hook in hooks:
        hook.remove()
    lengths = {"target": batch.labels.shape[1], "source": batch.input_ids.shape[1]}
    assert lengths["target"] != lengths["source"]
    for name, target in twice.items():
        assert seen[name] == [lengths[side] for side in target.sides], name


def test_dropout_in_a_linear_that_is_used_twice_is_that_of_its_own_tokens(
    t5gemma2: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed, padded and recomputed, the same tokens are dropped; by the first side alone, they are not."""
    bank = AdapterBank(t5gemma2)
    attach_speaking(bank, "a", seed=1, **DROPPING)
    packed, padded = (batch_of(t5gemma2, {"a": ROWS}, packing=packing) for packing in (True, False))
    losses, wanted = losses_and_gradients(bank, padded)
    packed_losses, gradients = losses_and_gradients(bank, packed)
    assert packed_losses["a"] == pytest.approx(losses["a"], rel=1e-5)
    assert_same_gradients(gradients["a"], wanted["a"])
    with recomputing(t5gemma2):
        recomputed_losses, recomputed = losses_and_gradients(bank, packed)
    assert recomputed_losses == packed_losses
    assert_same_gradients(recomputed["a"], gradients["a"])
    bank.drop("a")

    monkeypatch.setattr(T5Gemma2, "sides", lambda self, place: (place.side,))
    other = AdapterBank(t5gemma2)
    attach_speaking(other, "a", seed=1, **DROPPING)
    wrong, _ = losses_and_gradients(other, batch_of(t5gemma2, {"a": ROWS}, min_width=(200, 200)))
    assert wrong["a"] != pytest.approx(losses["a"], rel=1e-3)
    other.drop("a")


def test_what_is_dropped_of_source_and_target_has_nothing_in_common(
    t5gemma2: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loraloom.data.ownership import Draws

    names: list[tuple[str, str]] = []
    drawn = Draws.kept

    def kept(self: Draws, slot: str, module: str, side: Any, *rest: Any) -> torch.Tensor:
        names.append((module, side))
        return drawn(self, slot, module, side, *rest)

    monkeypatch.setattr(Draws, "kept", kept)
    bank = AdapterBank(t5gemma2)
    attach_speaking(bank, "a", seed=1, target_modules=["decoder:k"], **DROPPING)
    losses_and_gradients(bank, batch_of(t5gemma2, {"a": ROWS}))
    assert [side for _, side in names] == ["target", "source"] * 2
    assert len(set(names)) == 4
    bank.drop("a")


def test_the_tower_for_images_is_left_alone_and_that_is_said(t5gemma2: Base, tmp_path: Path) -> None:
    names = {target.name for target in linears(t5gemma2.model, t5gemma2.family)}
    assert len(names) == 28
    assert not any("vision" in name for name in names)
    stock = get_peft_model(
        AutoModelForSeq2SeqLM.from_pretrained(t5gemma2.name), LoraConfig(r=2, target_modules=["q_proj"])
    )
    assert any("vision" in name for name, _ in stock.named_parameters() if "lora_A" in name)

    main = experiment("main", lora={"target_modules": "all-linear"})
    found = run_gate(t5gemma2, [main], {}, random_rows(9, seed=3), packing=True, checks=[check_targets])
    assert [finding.level for finding in found] == ["ok", "note"]
    assert "matches 28 linears" in found[0].message
    assert "9 linears of model.encoder.vision_tower are not adapted" in found[1].message

    # PEFT must find what was adapted and nothing in the tower.
    bank = AdapterBank(t5gemma2)
    settings = attach_speaking(bank, "a", seed=1, target_modules=["q"])
    options = {"base": t5gemma2, "settings": settings, "available": bank.available, "origin": {}}
    write_adapter(tmp_path / "a", tensors=bank.tensors("a"), **options)
    bank.drop("a")
    theirs = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(t5gemma2.name), tmp_path / "a")
    adapted = {name.partition(".lora_A")[0] for name, _ in theirs.named_parameters() if "lora_A" in name}
    assert adapted == {f"base_model.model.{name}" for name in names if name.endswith("q_proj")}


def test_norms_of_the_tower_are_not_trained_and_do_not_decay(t5gemma2: Base, tmp_path: Path) -> None:
    """They get no gradient, so PEFT's optimizer skips them; LoRA+ lets Gemma's norms decay."""
    stock = get_peft_model(
        AutoModelForSeq2SeqLM.from_pretrained(t5gemma2.name),
        LoraConfig(r=2, target_modules=r"model\.decoder\..*q_proj", modules_to_save=["norm"]),
    )
    saved = [name for name, _ in stock.named_parameters() if ".modules_to_save." in name]
    theirs = {name.partition(".modules_to_save")[0].removeprefix("base_model.model.") for name in saved}
    assert {name for name in theirs if "vision_tower" in name or "multi_modal_projector" in name}
    bank = AdapterBank(t5gemma2)
    names = {"target_modules": ["decoder:q"], "modules_to_save": ["norm"]}
    settings = attach_speaking(bank, "a", seed=1, loraplus_lr_ratio=16.0, **names)
    norms = {name.rpartition(".")[0] for name in bank.tensors("a") if "lora_" not in name}
    assert norms == {name for name in theirs if "vision_tower" not in name and "projector" not in name}
    decaying = {name for group, own in bank.parameter_groups("a") for name in own if group.decays}
    assert "model.decoder.norm.weight" in decaying
    with pytest.raises(TargetError, match="`post_layernorm` matches no norm of this base"):
        bank.beside.norms.matching(settings.model_copy(update={"modules_to_save": ["post_layernorm"]}))

    # PEFT finds the norms of the tower in the folder, as they are in the base.
    options = {"base": t5gemma2, "settings": settings, "available": bank.available, "origin": {}}
    write_adapter(tmp_path / "a", tensors=bank.tensors("a"), **options)
    own = bank.tensors("a").keys()
    bank.drop("a")
    again = read_adapter(tmp_path / "a", t5gemma2)
    assert (again.tensors.keys(), again.settings.modules_to_save) == (own, ["norm"])
    model = AutoModelForSeq2SeqLM.from_pretrained(t5gemma2.name)
    loaded = PeftModel.from_pretrained(model, tmp_path / "a").merge_and_unload().state_dict()
    tower = [name for name in t5gemma2.model.state_dict() if "vision_tower" in name]
    assert tower
    assert all(torch.equal(loaded[name], t5gemma2.model.state_dict()[name]) for name in tower)
    changed = load_file(tmp_path / "a" / WEIGHTS)
    changed["base_model.model.model.encoder.vision_tower.post_layernorm.weight"] += 1
    save_file(changed, tmp_path / "a" / WEIGHTS)
    with pytest.raises(AdapterError, match="changes a norm of the part that reads images"):
        read_adapter(tmp_path / "a", t5gemma2)


def test_it_has_no_cross_attention_of_its_own(t5gemma2: Base) -> None:
    with pytest.raises(TargetError) as caught:
        resolve_targets(t5gemma2.model, t5gemma2.family, ["cross:q"])
    assert "`cross:q` matches no linear: t5gemma2 has none in its cross" in str(caught.value)
    assert "its decoder's self_attn attends to the source too" in str(caught.value)
    assert "decoder:q" in str(caught.value)


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_has_the_names_of_its_files_and_loads_again(tied: bool, tmp_path: Path) -> None:
    base = load_base(str(make_folder(tmp_path / "it", "t5gemma2", tied=tied)), device="cpu")
    assert base.head_is_tied == tied
    (tmp_path / "again").mkdir()
    save_model(base, tmp_path / "again")
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("it", "again")]
    assert files[0].keys() == files[1].keys()
    different = files[1].keys() - base.model.state_dict().keys()
    assert len(different) == 29
    assert load_base(str(tmp_path / "again"), device="cpu").fingerprint == base.fingerprint
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").state_dict()
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, plain[name]), name


def test_a_tensor_that_is_written_wrongly_is_found_under_its_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Callable[[str], Path]
) -> None:
    base = load_base(str(tiny("t5gemma2")), device="cpu")
    save = type(base.model).save_pretrained

    def save_wrong(self: Any, folder: Path, **options: Any) -> None:
        weight = self.get_submodule("model.encoder.text_model.layers.0.mlp.up_proj").weight
        saved = weight.detach().clone()
        weight.data += 1e-3
        save(self, folder, **options)
        weight.data.copy_(saved)

    monkeypatch.setattr(type(base.model), "save_pretrained", save_wrong)
    (tmp_path / "it").mkdir()
    with pytest.raises(
        ModelError, match=r"model\.encoder\.layers\.0\.mlp\.up_proj\.weight: a tensor was written"
    ):
        transformers_folder.save_model(base, tmp_path / "it")


def test_the_tower_is_without_dropout_too(t5gemma2: Base) -> None:
    tower = t5gemma2.model.get_encoder().vision_tower
    assert {m.dropout for m in tower.modules() if isinstance(getattr(m, "dropout", None), float)} == {0.0}
    config = json.loads((Path(t5gemma2.name) / "config.json").read_text())
    assert config["encoder"]["vision_config"]["attention_dropout"] == 0.1
    assert len(other_linears(t5gemma2.model, t5gemma2.family)) == 10  # and the head


def test_rounding_leaves_what_no_file_has(tiny: Callable[[str], Path]) -> None:
    """A reloaded folder computes rotations and the scale of embeddings anew, in full precision."""
    model = load_base(str(tiny("t5gemma2")), device="cpu").model
    unsaved = {n: b.clone() for n, b in model.named_buffers() if n not in model.state_dict()}
    assert any("embed_scale" in name for name in unsaved)
    round_weights(model, MergeReport({}, [], None, 0.0, 0.0), torch.bfloat16)
    buffers = dict(model.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in unsaved.items())
    assert all(torch.equal(t.bfloat16().float(), t) for t in model.state_dict().values())
