"""Marian beyond what holds for every family: positions, embeddings of two sides, two tokenizers in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from loraloom.bank.objective import example_losses
from loraloom.base.loading import Base, load_base
from loraloom.checks.gate import check_generation, check_loss, run_gate
from loraloom.commands.merge import merge
from loraloom.data.encoding import encode, encode_texts
from loraloom.data.example import Example
from loraloom.errors import ModelError, RecipeError
from loraloom.export.transformers_folder import save_model
from tests.commands.trained import train_small
from tests.parity.rig import batch_of, random_rows
from tests.tiny import make_folder

POSITIONS = ("model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight")
SEPARATE = {"share_encoder_decoder_embeddings": False}


@pytest.fixture
def marian(loaded: Callable[[str], Base]) -> Base:
    return loaded("marian")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("learned", [False, True], ids=["sinusoids", "learned"])
def test_positions_are_saved_though_transformers_leaves_them_out(tmp_path: Path, learned: bool) -> None:
    """Sinusoids too: of a folder in bfloat16 they are computed without its rounding."""
    source = make_folder(tmp_path / "base", "marian", learned_positions=learned)
    plain = AutoModelForSeq2SeqLM.from_pretrained(source)
    plain.save_pretrained(tmp_path / "theirs")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "theirs").state_dict()
    base = load_base(str(source), device="cpu")
    base.model.to(torch.bfloat16)
    save_model(base, tmp_path / "ours")
    ours = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).state_dict()
    for name in POSITIONS:
        assert torch.equal(ours[name], plain.state_dict()[name].bfloat16().float())
        assert torch.equal(theirs[name], plain.state_dict()[name]) is not learned  # the obvious way
        assert name not in weights_of(tmp_path / "theirs")


@pytest.mark.usefixtures("proof_here")
@pytest.mark.parametrize(
    "changes",
    [{"learned_positions": True}, SEPARATE, {"tied": False, "tie_word_embeddings": False, **SEPARATE}],
    ids=["learned positions", "two embeddings", "three"],
)
def test_it_merges_into_a_folder_that_says_the_same(changes: dict[str, Any], tmp_path: Path) -> None:
    """In bfloat16, in which even sinusoids would not be those of the folder any more."""
    run = train_small(tmp_path / "here", make_folder(tmp_path / "base", "marian", **changes))
    proof = merge(run, tmp_path / "merged", dtype="bfloat16")["proof"]
    assert proof["reload"]["max_difference"] < 1e-5 * proof["reload"]["largest_logit"]
    assert proof["reload"]["num_same_answers"] == 6
    names = weights_of(tmp_path / "merged").keys()
    assert set(POSITIONS) <= names
    assert ("model.decoder.embed_tokens.weight" in names) == (SEPARATE.items() <= changes.items())
    assert ("lm_head.weight" in names) == (changes.get("tied") is False)


def test_the_head_of_two_embeddings_is_the_decoders(tmp_path: Path) -> None:
    base = load_base(str(make_folder(tmp_path / "two", "marian", **SEPARATE)), device="cpu")
    head = base.head.weight
    assert head is base.model.get_decoder().get_input_embeddings().weight
    assert head is not base.model.get_input_embeddings().weight  # which PEFT compares with
    assert base.head_is_tied
    assert base.model.config.tie_word_embeddings is True
    (finding,) = run_gate(base, [], {}, random_rows(9, seed=3), packing=True, checks=[check_loss])
    assert finding.level == "ok", finding.message


def test_a_flag_that_makes_transformers_draw_embeddings_is_refused(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    AutoModelForSeq2SeqLM.from_pretrained(tiny("marian")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "tie_word_embeddings": False}), encoding="utf-8"
    )
    for file in ("source.spm", "target.spm", "vocab.json", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((tiny("marian") / file).read_bytes())
    with pytest.raises(ModelError, match=r"of its weights are missing"):
        load_base(str(tmp_path), device="cpu")


def test_labels_are_encoded_with_the_target_sides_model(marian: Base) -> None:
    """`ab` is a piece of the source model and `ba` one of the target model; one call reads both as source."""
    tokenizer = marian.tokenizer

    def tokens(ids: Any) -> list[str]:
        return [str(token) for token in tokenizer.convert_ids_to_tokens(list(map(int, ids)))]

    example = Example("ab ba", "ab ba", "x.json", row=1, line=1, turn=0, group="")
    (row,) = encode([example], tokenizer, max_source_length=32, max_target_length=32)
    assert tokens(row.input_ids) == ["▁", "ab", "▁", "b", "a", "</s>"]
    assert tokens(row.labels) == ["▁", "a", "b", "▁", "ba", "</s>"]
    assert tokens(tokenizer("ab ba")["input_ids"]) != tokens(row.labels)  # the obvious way
    targets, _ = encode_texts(["ab ba"], tokenizer, 32, as_target=True)
    assert targets == [row.labels.tolist()]
    assert marian.answer_text.texts([row.labels.tolist()]) == ["ab ba"]


def test_a_pass_of_several_rows_begins_positions_anew(marian: Base) -> None:
    rows = list(random_rows(9, seed=3))
    packed, padded = (batch_of(marian, {None: rows}, packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels)
    with torch.no_grad():
        right, wanted = (example_losses(marian, batch)[0] for batch in (packed, padded))
        torch.testing.assert_close(right, wanted, rtol=1e-5, atol=1e-5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(marian.family), "counts_positions", False)
            wrong = example_losses(marian, packed)[0]
    assert int(((wrong - wanted).abs() > 1e-3).sum()) >= 3


def test_what_its_folder_forbids_and_forces_is_said_and_not_used(marian: Base) -> None:
    rows = random_rows(9, seed=3, eos=marian.eos_token_id)
    (finding,) = run_gate(marian, [], {}, rows, packing=True, checks=[check_generation])
    assert finding.level == "note"
    for key in ("bad_words_ids", "forced_eos_token_id", "num_beams"):
        assert key in finding.message


def test_more_tokens_than_positions_are_refused(tiny: Callable[[str], Path]) -> None:
    from loraloom.recipe.reading import parse_recipe
    from loraloom.session.material import load_recipe_base

    for kind, title in (("marian", "Marian"), ("pegasus", "Pegasus")):
        recipe = {
            "model_name_or_path": str(tiny(kind)),
            "data": {"train": "rows.json", "max_source_length": 257},
            "lora": {"r": 2},
            "training": {},
        }
        with pytest.raises(RecipeError, match=f"this {title} has only 256 positions, so it cannot process"):
            load_recipe_base(parse_recipe(json.dumps(recipe), name="recipe"))


def test_a_vocabulary_for_each_side_is_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "two", "marian", **SEPARATE)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    target = {"separate_vocabs": True, "target_vocab_file": str(folder / "vocab.json")}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **target}), encoding="utf-8")
    (folder / "target_vocab.json").write_bytes((folder / "vocab.json").read_bytes())
    with pytest.raises(ModelError, match=r"separate vocabularies for sources and answers"):
        load_base(str(folder), device="cpu")
