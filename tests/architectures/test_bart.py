"""BART beyond what holds for every family: its positions, its tied tables, its names, its limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, BartModel

from loraloom.architectures.bart import Bart
from loraloom.bank.objective import example_losses
from loraloom.base.loading import Base, load_base
from loraloom.base.targets import linears, resolve_targets, unique_targets
from loraloom.checks.adapters import check_targets
from loraloom.checks.gate import check_loss, run_gate
from loraloom.errors import ModelError, RecipeError, TargetError
from loraloom.recipe.reading import parse_recipe
from loraloom.session.material import load_recipe_base
from tests.parity.rig import batch_of, experiment, random_rows, unwrap
from tests.tiny import make_folder

ROWS = list(random_rows(9, seed=3))


@pytest.fixture
def bart(loaded: Callable[[str], Base]) -> Any:
    yield loaded("bart")
    unwrap(loaded("bart"))


@torch.no_grad()
def test_packed_rows_need_positions_that_begin_anew(bart: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, padded = (batch_of(bart, {None: ROWS}, packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels)
    right, wanted = (example_losses(bart, batch)[0] for batch in (packed, padded))
    torch.testing.assert_close(right, wanted, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(Bart, "counts_positions", False)
    assert torch.equal(example_losses(bart, padded)[0], wanted)  # one example a row: the usual positions
    wrong = example_losses(bart, packed)[0]
    assert int(((wrong - wanted).abs() > 1e-3).sum()) >= 3


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_embedding": False},
        {"activation_function": "relu", "activation_dropout": 0.0},
        {"decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_attention_heads": 2},
    ],
    ids=str,
)
def test_the_loss_is_the_models_own_forward_whatever_the_config(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    base = load_base(str(make_folder(tmp_path / "it", "bart", **changes)), device="cpu")
    (finding,) = run_gate(base, [], {}, random_rows(9, seed=3), packing=True, checks=[check_loss])
    assert finding.level != "error", finding.message
    for target in linears(base.model, base.family):
        stack = ("encoder", "decoder").index(target.place.stack)
        if target.place.role == "in":
            assert target.module.out_features == base.dimensions.d_ff[stack]
    assert base.dimensions.num_heads[1] == base.model.config.decoder_attention_heads


def test_a_head_of_its_own_is_saved_so_that_it_loads_again(tmp_path: Path) -> None:
    """The flag is about three tables; `false` would make transformers draw two of them at random."""
    base = load_base(str(make_folder(tmp_path / "own", "bart", tied=False)), device="cpu")
    assert not base.head_is_tied
    assert base.model.config.tie_word_embeddings is True
    base.model.save_pretrained(tmp_path / "again")
    base.tokenizer.save_pretrained(tmp_path / "again")
    assert load_base(str(tmp_path / "again"), device="cpu").fingerprint == base.fingerprint
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").state_dict()
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, plain[name]), name

    # As somebody else may have saved it: what is missing is named, and never drawn.
    config = tmp_path / "again" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"2 of its weights are missing.*embed_tokens"):
        load_base(str(tmp_path / "again"), device="cpu")


def test_tables_that_are_not_tied_stay_three(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "three", "bart", tied=False, tie_word_embeddings=False)
    names = load_file(folder / "model.safetensors").keys()
    assert {"model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"} <= names
    base = load_base(str(folder), device="cpu")
    assert not base.head_is_tied
    base.model.save_pretrained(tmp_path / "again")
    base.tokenizer.save_pretrained(tmp_path / "again")
    assert load_base(str(tmp_path / "again"), device="cpu").fingerprint == base.fingerprint


def test_a_folder_of_the_model_without_its_head_is_the_same_base(tiny: Any, tmp_path: Path) -> None:
    """facebook/bart-base is such a folder: its config names BartModel, and no name begins with `model.`."""
    base = load_base(str(tiny("bart")), device="cpu")
    with torch.no_grad():
        base.model.final_logits_bias.zero_()  # it has none
    BartModel.from_pretrained(tiny("bart")).save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    assert "shared.weight" in load_file(tmp_path / "model.safetensors")
    again = load_base(str(tmp_path), device="cpu")
    assert again.head_is_tied
    for name, tensor in base.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_names_of_t5_stand_for_its_own(bart: Base) -> None:
    def names(target_modules: str | list[str]) -> list[str]:
        return [t.name for t in unique_targets(resolve_targets(bart.model, bart.family, target_modules))]

    for theirs, own in (
        (["q", "v"], ["q_proj", "v_proj"]),
        (["cross:k", "encoder:o"], ["cross:k_proj", "encoder:out_proj"]),
        (["wi", "wo"], ["fc1", "fc2"]),
        (["encoder_attn.q"], ["encoder_attn.q_proj"]),
    ):
        assert names(theirs) == names(own)
        assert names(own)
    assert set(names("all-linear")) == set(names(["q", "k", "v", "o", "wi", "wo"]))

    main = experiment("main", lora={"target_modules": ["q", "fc2"]})
    found = run_gate(bart, [main], {}, random_rows(9, seed=3), packing=True, checks=[check_targets])
    shown = [finding.message for finding in found]
    assert shown[0].startswith("`q` (q_proj) matches 6 linears")
    assert shown[1].startswith("`fc2` matches 4 linears")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wi_0", "matches no linear of bart. It has fc1, fc2, k_proj, out_proj, q_proj, v_proj"),
        ("query", "matches no linear"),
        ("shared", "is the embedding, the output head or another module"),
        ("embed_positions", "is the embedding, the output head or another module"),
        ("lm_head", "is the embedding, the output head or another module"),
        ("layers", "matches no linear"),
    ],
)
def test_what_it_does_not_have_is_refused(bart: Base, name: str, said: str) -> None:
    with pytest.raises(TargetError) as caught:
        resolve_targets(bart.model, bart.family, ["q", name])
    assert f"`{name}` {said}" in str(caught.value)


def recipe(folder: Path, **sections: Any) -> Any:
    values = {
        "model_name_or_path": str(folder),
        "data": {"train": "rows.json"},
        "lora": {"r": 2},
        "training": {},
        "device": "cpu",
        **sections,
    }
    return parse_recipe(json.dumps(values), name="recipe")


def test_more_tokens_than_positions_and_dropout_of_the_base_are_refused_at_once(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.base.loading.load_weights", None)  # before any weight is read
    asked = recipe(
        tiny("bart"),
        data={"train": "rows.json", "max_source_length": 257, "max_target_length": 300},
        training={"base_dropout": "model"},
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe_base(asked)
    text = str(caught.value)
    assert (
        "data.max_source_length: this BART has only 256 positions, so it cannot process longer texts "
        "(found: 257). Allowed: at most 256. Set data.max_source_length: 256." in text
    )
    assert "data.max_target_length: this BART has only 256" in text
    assert "generation.max_new_tokens: this BART has only 256" in text  # as long as a target
    assert (
        "training.base_dropout: the dropout of BART itself cannot be drawn from an experiment's seed: its"
        in text
    )
    assert "4 problems in all." in text


def test_every_position_can_be_used(tiny: Callable[[str], Path]) -> None:
    base = load_recipe_base(recipe(tiny("bart"), data={"train": "r", "max_source_length": 256}))
    rows = random_rows(3, target_len=256)
    losses = example_losses(base, batch_of(base, {None: list(rows)}))
    assert bool(torch.isfinite(losses[0]).all())


def test_what_a_tokenizer_puts_around_a_text_is_no_part_of_an_answer(bart: Base) -> None:
    ids = bart.tokenizer("abc")["input_ids"]
    assert ids[0] == bart.tokenizer.bos_token_id
    assert bart.answer_text.texts([ids]) == ["abc"]
    assert bart.answer_text.special_in(ids) == []


def test_a_damaged_bias_is_not_taken_for_a_missing_one(tiny: Any, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "it", "bart")
    weights = load_file(folder / "model.safetensors")
    weights["final_logits_bias"] = weights["final_logits_bias"][:, :-3].contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError):
        load_base(str(folder), device="cpu")
