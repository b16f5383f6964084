"""YAML is read safely, by version 1.2's rules, and every refusal names a line."""

from __future__ import annotations

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe.reading import parse_recipe
from loraloom.recipe.yaml_tree import compose, resolve

BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


def read(text: str) -> object:
    node, problems = compose(text, "recipe.yaml")
    assert not problems, problems
    assert node is not None
    return node.plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe.yaml: the recipe is empty. Create one with `loraloom init`"),
        ("# only a comment\n", "recipe.yaml: the recipe is empty"),
        ("just text", "recipe.yaml:1: a recipe must be a mapping of settings (found: 'just text')"),
        ("- a\n- b", "recipe.yaml:1: a recipe must be a mapping of settings (found: a list)"),
        ("a: 1\n---\nb: 2", "recipe.yaml:2: a second document starts here. Keep only one recipe in a file"),
        (
            "a:\n\tb: 1",
            "recipe.yaml:2: not readable as YAML, column 1: tabs cannot be used for indentation. Indent",
        ),
        (
            "seed: 1\na: b: c",
            "recipe.yaml:2: not readable as YAML, column 5: `: ` is used where no value can begin",
        ),
        ("a: [1\nb: 2", "recipe.yaml:2: not readable as YAML, column 2: expected ',' or ']'"),
        ('a: "b\n', "recipe.yaml:2: not readable as YAML"),
        ('a: "\\U99999999"', "recipe.yaml:1: not readable as YAML: an escape is not a valid character"),
        ("%YAML 1." + "9" * 5000 + "\n---\na: 1", "not readable as YAML"),
        (
            "a: 1\nb: \x00",
            "recipe.yaml:2: contains a character that YAML does not allow (found: U+0000 in column 4)",
        ),
        ('a: "\\0"', "recipe.yaml:1: contains a NUL character"),
        ('a: "\\ud800"', "recipe.yaml:1: contains a lone surrogate"),
        ("a: *b", "recipe.yaml:1: `*b` refers to no value above it"),
        ("a: &a [*a]", "recipe.yaml:1: `*a` refers to no value above it"),
        (BOMB, "recipe.yaml:5: too many values for a recipe"),
        ("[" * 50_000, "recipe.yaml:1: nested too deeply for a recipe. Allowed: 16 levels."),
        ("\n".join(" " * n + "a:" for n in range(50)), "recipe.yaml:18: nested too deep"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "the tag `!!python/object/apply:os.system` has no meaning",
        ),
        (
            "seed: 1\nlr: 1\nseed: 1",
            "recipe.yaml:3: the key `seed` is given twice; the first is at recipe.yaml:1",
        ),
        ("? [a, b]\n: 1", "recipe.yaml:1: a key must be text"),
        ("a: {<<: 3}", "recipe.yaml:1: `<<` must be followed by a mapping"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, name="recipe.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("5E3", 5000.0), (".5", 0.5), ("3.", 3.0), ("-2", -2), ("010", 10),
        (".inf", float("inf")), ("no", "no"), ("off", "off"), ("yes", "yes"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True), ("False", False), ("~", None), ("", None), ("0x10", "0x10"), ("1.2.3", "1.2.3"),
        ("9" * 5000, "9" * 5000),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert resolve(text) == value
    assert type(resolve(text)) is type(value)


def test_quotes_make_text_and_escapes_make_one_character_of_two() -> None:
    assert read('{a: \'1\', b: "true", c: "\\ud83d\\ude00"}') == {"a": "1", "b": "true", "c": "😀"}


def test_aliases_and_merges_stand_for_what_they_name() -> None:
    text = "x: &x {r: 8, seed: 1}\ny: {<<: *x, r: 4}\nz: *x\nw: {<<: [{a: 1}, {a: 2, b: 2}]}"
    plain = read(text)
    assert isinstance(plain, dict)
    assert plain["y"] == {"r": 4, "seed": 1}
    assert plain["z"] == plain["x"]
    assert plain["w"] == {"a": 1, "b": 2}


def test_a_value_stands_where_its_key_does() -> None:
    node, _ = compose("a:\n\n  b:\n    1\n", "r")
    assert node is not None
    assert node.value["a"].where == "r:1"
    assert node.value["a"].value["b"].where == "r:3"
