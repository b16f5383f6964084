"""Target names: each stands for linears, or is refused with the setting that was probably meant."""

from __future__ import annotations

from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from loraloom.architectures.place import Place
from loraloom.bank.updates.kinds import num_weights
from loraloom.base.loading import Base
from loraloom.base.targets import linears, peft_target_modules, resolve_targets, unique_targets
from loraloom.errors import TargetError
from loraloom.recipe import LoraSettings
from tests.families import TINY_FAMILIES
from tests.parity.rig import stock_model

LAYERS = 2


def names(base: Base, target_modules: str | list[str]) -> set[str]:
    matches = resolve_targets(base.model, base.family, target_modules)
    return {target.name for target in unique_targets(matches)}


def complaint(base: Base, target_modules: str | list[str]) -> str:
    with pytest.raises(TargetError) as caught:
        resolve_targets(base.model, base.family, target_modules)
    return str(caught.value)


def test_all_linear_is_every_linear_but_the_head(base: Base, kind: str) -> None:
    found = names(base, "all-linear")
    per_layer, cross = TINY_FAMILIES[kind].linears, TINY_FAMILIES[kind].cross_linears
    assert len(found) == LAYERS * per_layer + LAYERS * (per_layer + cross)
    assert (
        found == names(base, ["all-linear"]) == {target.name for target in linears(base.model, base.family)}
    )
    assert not any("lm_head" in name for name in found)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("which", ["all-linear", "two names", "longer names", "a whole path"])
def test_names_match_what_peft_matches(base: Base, kind: str, tiny: Any, which: str) -> None:
    own = {target.place: target.name for target in linears(base.model, base.family)}
    path = own[Place("decoder", 1, "cross" if TINY_FAMILIES[kind].cross_linears else "self", "k")]
    target_modules: str | list[str] = {
        "all-linear": "all-linear",
        "two names": [own[Place("encoder", 0, "self", role)].rpartition(".")[2] for role in ("q", "v")],
        "longer names": [".".join(path.split(".")[-2:])],
        "a whole path": [path],
    }[which]
    config = LoraConfig(r=2, target_modules=target_modules, task_type="SEQ_2_SEQ_LM")
    adapted = get_peft_model(stock_model(tiny(kind)), config).targeted_module_names
    assert names(base, target_modules) == {name for name in adapted if "vision" not in name}


def test_one_meaning_for_recipe_and_base(mt5: Base) -> None:
    """What a recipe accepts matches; what it means does not depend on spaces, colons or commas in it."""
    decoder_qv = {name for name in names(mt5, ["q", "v"]) if name.startswith("decoder.")}
    for written in (
        "decoder:q, decoder:v",
        "decoder: q, decoder : v",
        ["decoder: q", "decoder:v"],
        "decoder:.*\\.(?:q|v)",
        "decoder: .*\\.(?:q|v)",
        "decoder:.*\\.(q|v)",
    ):
        assert names(mt5, LoraSettings(target_modules=written).target_modules) == decoder_qv, written
    cross_q_and_wo = names(mt5, ["EncDecAttention.q", "wo"])
    assert names(mt5, LoraSettings(target_modules="EncDecAttention.q, wo").target_modules) == cross_q_and_wo
    whole = "decoder.block.1.layer.1.EncDecAttention.q"
    assert names(mt5, LoraSettings(target_modules=whole).target_modules) == {whole}


def test_a_part_that_no_model_has_is_named(mt5: Base) -> None:
    assert "`head:q` may have the prefix `encoder:`, `decoder:` or `cross:`" in complaint(
        mt5, ["head:q", "v"]
    )


def test_a_name_is_the_end_of_a_path_at_a_dot(mt5: Base) -> None:
    assert {name.rpartition(".")[2] for name in names(mt5, ["o", "k"])} == {"o", "k"}  # not wo
    assert len(names(mt5, ["EncDecAttention.v"])) == LAYERS


@pytest.mark.parametrize(
    ("pattern", "num"),
    [
        ("encoder:q", LAYERS),
        ("decoder:q", 2 * LAYERS),  # the cross-attention's included
        ("cross:q", LAYERS),
        ("cross:all-linear", 4 * LAYERS),
        ("encoder:all-linear", 7 * LAYERS),
        ("decoder:wi_0", LAYERS),
    ],
)
def test_a_name_may_be_limited_to_a_place(mt5: Base, pattern: str, num: int) -> None:
    found = names(mt5, [pattern])
    place = {"encoder": "encoder.", "decoder": "decoder.", "cross": ".EncDecAttention."}
    assert len(found) == num
    assert all(place[pattern.split(":")[0]] in name for name in found)


def test_one_text_is_a_regular_expression_over_whole_paths(mt5: Base) -> None:
    assert len(names(mt5, r"decoder\.block\.\d\..*\.(q|v)")) == 4 * LAYERS
    assert names(mt5, r"decoder:.*\.block\.1\..*\.q") == names(mt5, r"decoder\.block\.1\..*\.q")
    assert "matches no linear" in complaint(mt5, "block")  # not the whole of any path
    assert len(names(mt5, r"(?:encoder|decoder).*\.wo")) == 2 * LAYERS


def test_a_pattern_twice_adapts_a_linear_once(mt5: Base) -> None:
    matches = resolve_targets(mt5.model, mt5.family, ["q", "cross:q"])
    assert [len(match.targets) for match in matches] == [3 * LAYERS, LAYERS]
    assert len(unique_targets(matches)) == 3 * LAYERS


def test_weights_are_counted(mt5: Base) -> None:
    (match,) = resolve_targets(mt5.model, mt5.family, ["wi_0"])
    assert num_weights(LoraSettings(r=3), match.targets) == 2 * LAYERS * 3 * (32 + 48)


def test_the_side_says_whose_tokens_a_linear_reads(base: Base) -> None:
    """Only the k and v of the cross-attention read the source within the decoder."""
    has_cross = "cross" in base.family.sublayers.values()
    in_cross = names(base, ["cross:k", "cross:v"]) if has_cross else set()
    for target in linears(base.model, base.family):
        reads_source = target.name in in_cross or target.name in names(base, "encoder:all-linear")
        assert target.place.side == ("source" if reads_source else "target")


def test_wi_on_a_gated_model_is_refused_with_the_right_setting(mt5: Base) -> None:
    """PEFT would adapt the other five names and say nothing."""
    text = complaint(mt5, ["q", "v", "k", "o", "wi", "wo"])
    assert "`wi` matches no linear of mt5 (gated feed-forward). It has wi_0 and wi_1" in text
    assert "Set target_modules: [q, v, k, o, wi_0, wi_1, wo], or all-linear." in text
    assert names(mt5, ["q", "v", "k", "o", "wi_0", "wi_1", "wo"]) == names(mt5, "all-linear")


@pytest.mark.parametrize(
    ("kind", "given", "meant"),
    [
        ("mt5", "q_proj", "q"),  # LLaMA's name
        ("mt5", "wi_2", "wi_"),
        ("t5", "wi_0", "wi"),
    ],
)
def test_a_near_name_is_suggested(base: Base, given: str, meant: str) -> None:
    text = complaint(base, ["v", given])
    assert f"`{given}` matches no linear" in text
    assert f"Set target_modules: [v, {meant}" in text


@pytest.mark.parametrize("given", ["banana", "c_attn", "encoder:EncDecAttention"])
def test_a_far_name_gets_a_list_of_what_there_is(mt5: Base, given: str) -> None:
    text = complaint(mt5, [given])
    assert f"`{given}` matches no linear" in text
    assert "k, o, q, v, wi_0, wi_1, wo" in text
    assert "all-linear" in text


def test_a_limited_name_is_suggested_with_its_limit(mt5: Base) -> None:
    text = complaint(mt5, ["encoder:wi", "q"])
    assert "`encoder:wi` matches no linear of the encoder of mt5" in text
    assert "Set target_modules: [encoder:wi_0, encoder:wi_1, q], or all-linear." in text


@pytest.mark.parametrize("given", ["lm_head", "shared", "embed_tokens", "relative_attention_bias", "dropout"])
def test_what_is_no_linear_of_a_block_is_refused(base: Base, given: str) -> None:
    assert f"`{given}`" in complaint(base, ["q", given])


@pytest.mark.parametrize("given", ["lm_head", "embed_tokens"])
def test_embedding_and_head_are_refused_as_such(base: Base, given: str) -> None:
    text = complaint(base, [given])
    assert "LoRALoom does not adapt" in text
    assert "Leave it out." in text


def test_a_table_of_both_stacks_is_refused_as_an_embedding(mt5: Base) -> None:
    assert "`shared` is the embedding, the output head or another module" in complaint(mt5, ["shared"])


def test_every_problem_is_said_at_once(mt5: Base) -> None:
    text = complaint(mt5, ["wi", "q", "banana", "lm_head", "decoder:c_attn"])
    for name in ("`wi`", "`banana`", "`lm_head`", "`decoder:c_attn`"):
        assert name in text
    assert "4 problems in all." in text
    assert text.count("lora.target_modules:") == 4


def test_a_damaged_expression_is_refused(mt5: Base) -> None:
    assert "`(q|` is not a regular expression" in complaint(mt5, "(q|")


def test_pefts_list_is_short_where_it_can_be_and_whole_paths_otherwise(mt5: Base) -> None:
    available = linears(mt5.model, mt5.family)
    assert peft_target_modules(sorted(names(mt5, ["q", "wi_0"])), available) == ["q", "wi_0"]
    limited = sorted(names(mt5, ["encoder:q"]))
    assert peft_target_modules(limited, available) == limited
