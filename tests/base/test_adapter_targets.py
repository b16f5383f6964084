"""Ranks, scales and layers of single modules: what their keys match, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from loraloom.base.adapter_targets import matches_of
from loraloom.base.loading import Base
from loraloom.base.targets import unique_targets
from loraloom.errors import RecipeError, TargetError
from loraloom.recipe import LoraSettings
from loraloom.recipe.reading import parse_recipe


def names(base: Base, **lora: Any) -> list[str]:
    return [
        target.name for target in unique_targets(matches_of(base.model, base.family, LoraSettings(**lora)))
    ]


def test_layers_of_encoder_and_decoder_except_modules_named_by_their_path(mt5: Base) -> None:
    path = "encoder.block.0.layer.0.SelfAttention.v"
    found = names(mt5, target_modules=["q", path], layers_to_transform=1)
    assert found == [
        "encoder.block.1.layer.0.SelfAttention.q",
        "decoder.block.1.layer.0.SelfAttention.q",
        "decoder.block.1.layer.1.EncDecAttention.q",
        path,
    ]
    # the number after `layer` is that of a sublayer
    cross = names(mt5, target_modules="all-linear", layers_to_transform=[2], layers_pattern="layer")
    assert cross
    assert all(".layer.2." in name for name in cross)


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"layers_to_transform": [1, 7]}, r"layer 7 contains none of the targeted linears. Allowed: 0, 1"),
        (
            {"layers_to_transform": [0], "layers_pattern": ["layers"]},
            r"layer 0 contains none of the targeted linears. Allowed: none, because",
        ),
        (
            {
                "layers_to_transform": [2],
                "layers_pattern": "layer",
                "target_modules": ["wo", "encoder:q"],
            },
            r"`encoder:q` matches no linear in these layers",
        ),
        ({"rank_pattern": {"wi": 2}}, r"lora.rank_pattern: `wi` is not the first match for any of the 36"),
        (
            {"alpha_pattern": {"q|v": 2, "decoder.*q": 3}, "target_modules": ["q", "v"]},
            r"lora.alpha_pattern: `decoder.\*q` is not the first match for any.*put it before the key",
        ),
    ],
)
def test_what_matches_nothing_is_refused(mt5: Base, lora: dict[str, Any], message: str) -> None:
    with pytest.raises(TargetError, match=message):
        names(mt5, **lora)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rank_pattern: [q]", "`lora.rank_pattern` must be a mapping from names of modules to numbers"),
        ("rank_pattern: {q: 0}", "`lora.rank_pattern.q` must be at least 1 (found: 0)"),
        ('rank_pattern: {"(": 2}', "`lora.rank_pattern` has `(`, which is not a regular expression"),
        ("alpha_pattern: {q: much}", "`lora.alpha_pattern.q` must be a number (found: 'much')"),
        ("layers_to_transform: [-1]", "`lora.layers_to_transform.0` must be at least 0 (found: -1)"),
        ("layers_to_transform: true", "`lora.layers_to_transform` must be a list (found: true)"),
        ("layers_pattern: block", "`lora.layers_pattern` has no effect without layers_to_transform"),
        ('layers_to_transform: 0\nlayers_pattern: "["', "`lora.layers_pattern` has `[`"),
        ("loraplus_lr_ratio: 0.5", "`lora.loraplus_lr_ratio` must be at least 1 (found: 0.5)"),
        ("loraplus_weight_decay: 0.1", "an adapter has one weight decay. Set training.weight_decay."),
    ],
)
def test_values_that_a_recipe_may_not_have(line: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(f"model: starter\ndata: a.json\n{line}", name="recipe.yaml")
    assert message in str(caught.value)
