"""Adapters of PEFT's own making whose configuration says more, or other, than their tensors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter
from loraloom.base.loading import Base, load_base
from loraloom.base.targets import linears, resolve_targets, target_setting, unique_targets
from loraloom.data.ownership import Rows
from loraloom.errors import AdapterError
from tests.parity.rig import stock_model

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
ARTICLE = ["q", "v", "k", "o", "wi", "wo"]
IDS, START = torch.tensor([[20, 30, 40, 1]]), torch.tensor([[0, 11, 12]])

Made = Callable[..., tuple[Path, torch.Tensor]]


@pytest.fixture
def made(tiny: Callable[[str], Path], tmp_path: Path) -> Made:
    """`made(target_modules=…)` → the folder that PEFT saves on a gated base, and what it says to one row."""

    def save(**config: Any) -> tuple[Path, torch.Tensor]:
        torch.manual_seed(3)
        lora = LoraConfig(r=4, lora_alpha=8, task_type="SEQ_2_SEQ_LM", init_lora_weights=False, **config)
        model = get_peft_model(stock_model(tiny("mt5")), lora).eval()
        model.save_pretrained(tmp_path / "theirs")
        with torch.no_grad():
            return tmp_path / "theirs", model(input_ids=IDS, decoder_input_ids=START).logits

    return save


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, **values}), encoding="utf-8")


def drop_tensors(folder: Path, part: str) -> None:
    held = load_file(folder / WEIGHTS)
    left = {name: tensor for name, tensor in held.items() if part not in name}
    assert 0 < len(left) < len(held)
    save_file(left, folder / WEIGHTS)


@torch.no_grad()
def logits_of(base: Base, folder: Path) -> torch.Tensor:
    adapter = read_adapter(folder, base)
    bank = AdapterBank(base)
    bank.attach("a", adapter.settings, seed=0, tensors=adapter.tensors)
    with bank.rows(Rows(("a",), (1,))):
        logits = base.model(input_ids=IDS, decoder_input_ids=START, use_cache=False).logits
    bank.drop("a")
    return logits  # type: ignore[no-any-return]


def test_the_articles_adapter_is_taken_as_peft_takes_it_and_the_unmatched_name_is_said(
    mt5: Base, made: Made
) -> None:
    folder, said = made(target_modules=ARTICLE)
    assert "wi" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))["target_modules"]
    adapter = read_adapter(folder, mt5)
    note, _ = adapter.notes
    assert "no linear of this base matches `wi` in the adapter's `target_modules`" in note
    assert "and adapts 28 of 36 linears" in note
    assert len(adapter.settings.target_modules) == 28
    torch.testing.assert_close(logits_of(mt5, folder), said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


@pytest.mark.parametrize(
    ("config", "unmatched"),
    [
        ({"target_modules": r".*\.(q|v|wi|gate_proj)"}, 0),
        ({"target_modules": "all-linear"}, 0),
        ({"target_modules": ["wo", "q", "q_proj", "v_proj"]}, 2),
        ({"target_modules": ["SelfAttention.q", "wi"]}, 1),
        ({"target_modules": ["q", "v"], "exclude_modules": ["EncDecAttention.q"]}, 0),
        ({"target_modules": ["q", "v"], "exclude_modules": r"decoder\..*"}, 0),
        ({"target_modules": ["q", "v"], "layers_to_transform": [1]}, 0),
        ({"target_modules": ["q", "v"], "layers_to_transform": 0}, 0),
        # PEFT before 0.21 takes no number 0 beside a pattern
        ({"target_modules": ["q", "v"], "layers_to_transform": 1, "layers_pattern": "block"}, 0),
        ({"target_modules": ["q", "wi"], "layers_to_transform": [1], "layers_pattern": ["layer"]}, 1),
    ],
)
def test_whatever_peft_adapts_is_what_is_read(
    mt5: Base, made: Made, config: dict[str, Any], unmatched: int
) -> None:
    folder, said = made(**config)
    notes = read_adapter(folder, mt5).notes
    assert sum(note.replace("`target_modules`", "").count("`") // 2 for note in notes) == unmatched
    torch.testing.assert_close(logits_of(mt5, folder), said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


@pytest.mark.parametrize(
    "config",
    [
        {"target_modules": ARTICLE},
        {"target_modules": r".*\.(q|v|wi)"},
        {"target_modules": "all-linear"},
        {"target_modules": ["q", "v"], "exclude_modules": ["EncDecAttention.q"]},
        {"target_modules": ["q", "v"], "layers_to_transform": [1]},
    ],
)
def test_a_matched_module_without_tensors_is_refused_and_named(
    mt5: Base, made: Made, config: dict[str, Any]
) -> None:
    folder, _ = made(**config)
    module = "decoder.block.1.layer.1.EncDecAttention.v"  # in layer 1 as every version of PEFT counts
    drop_tensors(folder, f"{module}.")
    with pytest.raises(
        AdapterError, match=rf"lacks the tensors of 1 modules .*no tensors for {re.escape(module)}\)"
    ):
        read_adapter(folder, mt5)


def test_layers_counted_as_older_versions_of_peft_counted_them_are_read(mt5: Base, made: Made) -> None:
    """Up to 0.19 the last number of a path was the layer: `layer.1` of every block."""
    folder, said = made(target_modules=r".*\.layer\.1\..*\.(k|wi_0)")
    change_config(folder, target_modules=["k", "wi_0"], layers_to_transform=[1])
    torch.testing.assert_close(logits_of(mt5, folder), said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_modules": ["q", "v", "lm_head"]}, r"does not adapt.*found: lm_head"),
        ({"target_modules": ["q", "v", "shared"]}, r"does not adapt.*found: shared"),
        ({"target_modules": r"(lm_head|.*\.(q|v))"}, r"does not adapt.*found: lm_head"),
        ({"target_modules": ["q"]}, r"tensors for 6 modules that its adapter_config\.json does not name"),
        ({"exclude_modules": ["v"]}, r"tensors for 6 modules that its adapter_config\.json does not name"),
        ({"target_modules": ["q_proj", "v_proj"]}, "matches no linear of this base"),
        ({"exclude_modules": 7}, "`exclude_modules` is not a list of names"),
        ({"exclude_modules": "(["}, "`exclude_modules` is not a valid regular expression"),
        ({"layers_to_transform": ["first"]}, "`layers_to_transform` is not a list of whole numbers"),
        (
            {"layers_to_transform": [0, 1], "layers_pattern": "(["},
            "`layers_pattern` is not a valid regular",
        ),
        ({"layers_to_transform": [0, 1], "layers_pattern": [7]}, "`layers_pattern` is not a list"),
    ],
)
def test_a_configuration_that_says_otherwise_than_the_tensors_is_refused(
    mt5: Base, made: Made, change: dict[str, Any], message: str
) -> None:
    folder, _ = made(target_modules=["q", "v"])
    change_config(folder, **change)
    with pytest.raises(AdapterError, match=message):
        read_adapter(folder, mt5)


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules"])
def test_an_expression_without_end_is_given_up(
    mt5: Base, made: Made, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("loraloom.bank.peft_targets.SECONDS_FOR_AN_EXPRESSION", 0.01)
    folder, _ = made(target_modules=["q", "v"])
    change_config(folder, **{key: r"(?:(\w)|(\.)|([^!]))*\1\1\1"})
    with pytest.raises(AdapterError, match=f"`{key}` takes too long to match"):
        read_adapter(folder, mt5)


def test_a_name_that_is_excluded_again_needs_no_tensors(mt5: Base, made: Made) -> None:
    folder, said = made(target_modules=["q", "v"])
    change_config(folder, target_modules=["q", "v", "lm_head"], exclude_modules=["lm_head"])
    torch.testing.assert_close(logits_of(mt5, folder), said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


def test_the_order_of_names_and_keys_means_nothing(mt5: Base, made: Made) -> None:
    folder, said = made(target_modules=ARTICLE)
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config["target_modules"].sort(reverse=True)
    (folder / CONFIG).write_text(json.dumps(dict(reversed(config.items()))), encoding="utf-8")
    torch.testing.assert_close(logits_of(mt5, folder), said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


@pytest.mark.parametrize(
    ("patterns", "setting"),
    [
        ("all-linear", "all-linear"),
        (["q", "v", "k", "o", "wo"], "[k, o, q, v, wo]"),
        (r".*\.block\.1\..*\.(q|v)", r"'(decoder|encoder)\.block\.1\..*\.(q|v)'"),
        (r"decoder\.block\.0\..*", r"'decoder\.block\.0\..*\.(k|o|q|v|wi_0|wi_1|wo)'"),
        (["cross:k"], ""),
    ],
)
def test_the_setting_that_a_message_gives_stands_for_the_same_modules(
    mt5: Base, patterns: Any, setting: str
) -> None:
    available = linears(mt5.model, mt5.family)
    adapted = [t.name for t in unique_targets(resolve_targets(mt5.model, mt5.family, patterns))]
    found = target_setting(adapted, available)
    assert found == setting or not setting
    if found.startswith("["):
        again: Any = found.strip("[]").split(", ")
    else:
        again = found.strip("'")
    resolved = unique_targets(resolve_targets(mt5.model, mt5.family, again))
    assert {target.name for target in resolved} == set(adapted)


# PEFT before 0.21 goes by the flag, which transformers forces, not by whether the head is tied.
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_the_way_out_that_a_refusal_names_leads_to_the_same_model(
    made: Made, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, said = made(target_modules=["q", "v"], modules_to_save=["layer_norm", "lm_head"])
    with pytest.raises(AdapterError, match=r"for `lm_head`; .*norms only.*merge_and_unload.*FOLDER"):
        read_adapter(folder)
    merged = PeftModel.from_pretrained(stock_model(tiny("mt5")), folder).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    for file in tiny("mt5").glob("*token*"):
        shutil.copy(file, tmp_path / "merged")
    base = load_base(str(tmp_path / "merged"), dtype="float32", device="cpu")
    with torch.no_grad():
        logits = base.model(input_ids=IDS, decoder_input_ids=START, use_cache=False).logits
    torch.testing.assert_close(logits, said, rtol=1e-5, atol=1e-5 * float(said.abs().max()))


def test_embeddings_saved_for_a_resized_vocabulary_come_with_what_to_do(made: Made) -> None:
    folder, _ = made(target_modules=["q"])
    file = folder / "adapter_model.safetensors"
    held = load_file(file)
    save_file({**held, "base_model.model.shared.weight": torch.zeros(4, 32)}, file)
    with pytest.raises(
        AdapterError, match=r"shared\.weight.*base's vocabulary was resized.*merge_and_unload"
    ):
        read_adapter(folder)
    save_file({**held, "base_model.model.shared.lora_embedding_A": torch.zeros(4, 32)}, file)
    with pytest.raises(AdapterError, match="not part of a LoRA adapter") as caught:
        read_adapter(folder)
    assert "merge_and_unload" not in str(caught.value)  # PEFT does not merge that one rightly


def test_an_embedding_that_peft_does_not_merge_rightly_gets_no_such_advice(made: Made) -> None:
    folder, _ = made(target_modules=["q"])
    change_config(folder, modules_to_save=["shared"])
    with pytest.raises(AdapterError, match="PEFT does not merge shared correctly") as caught:
        read_adapter(folder)
    assert "merge_and_unload" not in str(caught.value)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["style"], r"in 1 of its subfolders \(found: style\)\. Give its path: .*/style"),
        (["b", "a"], r"in 2 of its subfolders \(found: a, b\)\. Give the path of one of them: .*/a"),
        (["adapters/main"], r"found: adapters/main"),
        (["checkpoint-5"], r"Give its path: .*/checkpoint-5"),
    ],
)
def test_adapters_in_named_subfolders_are_named(
    made: Made, tmp_path: Path, places: list[str], message: str
) -> None:
    folder, _ = made(target_modules=["q"])
    for place in places:
        shutil.copytree(folder, tmp_path / "outer" / place)
    with pytest.raises(AdapterError, match=message):
        read_adapter(tmp_path / "outer")


def test_a_folder_that_is_not_there_and_a_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="there is no such folder"):
        read_adapter(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(AdapterError, match="an adapter is a folder, but this is a file"):
        read_adapter(tmp_path / "file")
