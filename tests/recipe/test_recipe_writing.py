"""What is written reads back the same, by us and by plain PyYAML; shipped recipes and schema agree."""

from __future__ import annotations

import doctest
import importlib
import operator
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loraloom.recipe import SHARED_TRAINING_KEYS, DataSettings, LoraSettings, Recipe, TrainingSettings
from loraloom.recipe.data_settings import LANGUAGE_KEYS
from loraloom.recipe.lora_settings import VARIANT_KEYS
from loraloom.recipe.reading import (
    commented_recipe,
    parse_recipe,
    parse_recipe_with_notes,
    read_recipe,
    read_recipe_with_notes,
    recipe_schema,
    shipped_recipes,
    write_recipe,
)
from loraloom.recipe.schema import UNQUANTIZED

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAME = TEXT.filter(str.strip).filter(lambda text: not text.replace("_", "").isnumeric())
SHARE = st.floats(0, 0.49)
PART = st.one_of(SHARE, st.integers(0, 10_000), st.just("test.json"))
LORA = {
    "r": st.integers(1, 4096),
    "lora_alpha": st.floats(1e-12, 1e6),
    "lora_dropout": st.floats(0, 1, exclude_max=True),
    "target_modules": st.lists(st.sampled_from(["q", "v", "wi_0", "decoder:o"]), min_size=1),
    "use_rslora": st.booleans(),
    "rank_pattern": st.dictionaries(st.sampled_from(["q", r"encoder.*\.v"]), st.integers(1, 4096)),
    "alpha_pattern": st.dictionaries(st.sampled_from(["q", r"encoder.*\.v"]), st.floats(1e-12, 1e6)),
    "layers_to_transform": st.none() | st.lists(st.integers(0, 99), min_size=1),
    "use_dora": st.booleans(),
    "modules_to_save": st.none() | st.lists(st.sampled_from(["norm", "layer_norm"]), min_size=1),
    "loraplus_lr_ratio": st.none() | st.floats(1, 1000),
}
TRAINING = {
    "learning_rate": st.floats(1e-300, 10),
    "num_train_epochs": st.floats(1e-3, 100_000),
    "max_steps": st.none() | st.integers(1, 10**12),
    "warmup_steps": st.floats(0, 1e30),
    "lr_scheduler_type": st.sampled_from(["linear", "cosine", "constant"]),
}
SHARED = {"base_dropout": st.just("model") | SHARE, "packing": st.booleans()}
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "lora": st.fixed_dictionaries({}, optional=LORA),
        "training": st.fixed_dictionaries({}, optional=TRAINING),
        "seed": st.integers(0, 2**63 - 1),
    },
)
RECIPES = st.fixed_dictionaries(
    {
        "model_name_or_path": TEXT,
        "data": st.fixed_dictionaries(
            {"train": TEXT.filter(str.strip)},
            optional={
                "eval": PART,
                "test": PART,
                "source_prefix": TEXT,
                "hub_config": st.none() | TEXT,
                "columns": st.dictionaries(st.sampled_from(["instruction", "input", "response"]), TEXT),
            },
        ),
    },
    optional={
        "lora": st.fixed_dictionaries({}, optional=LORA),
        "training": st.fixed_dictionaries({}, optional=TRAINING | SHARED),
        "experiments": st.dictionaries(
            st.from_regex(r"[a-z0-9][a-z0-9_.\-]{0,8}", fullmatch=True), CHANGES
        ).filter(lambda experiments: "base" not in experiments),
    },
).map(Recipe.model_validate)
FEW = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(RECIPES)
def test_a_written_recipe_reads_back_equal(recipe: Recipe) -> None:
    text = write_recipe(recipe)
    assert parse_recipe(text, name="recipe.yaml") == recipe
    written, whole = yaml.safe_load(text), recipe.model_dump()
    assert written["data"].keys() | set(LANGUAGE_KEYS) == whole["data"].keys()
    assert written["lora"].keys() | set(VARIANT_KEYS) == whole["lora"].keys()
    both = {name: whole[name] | written[name] for name in ("data", "lora")}
    assert whole | both == whole
    if whole["quantization"] == UNQUANTIZED:
        written["quantization"] = UNQUANTIZED
    assert written | {name: whole[name] for name in both} == whole


@pytest.mark.parametrize(
    "value",
    [
        "1e-4",
        "no",
        "010",
        "null",
        "true",
        " a ",
        "a: b",
        "#",
        "",
        "中文",
        "😀",
        "a\nb",
        "\x85",
        "a\u2028 b",
        "-",
    ],
)
def test_text_that_looks_like_something_else_stays_text(value: str) -> None:
    data = DataSettings(train="a", source_prefix=value, hub_config=value)
    recipe = Recipe(model_name_or_path="x", data=data)
    assert parse_recipe(write_recipe(recipe), name="r") == recipe


def test_every_default_is_written_and_chinese_stays_readable() -> None:
    text = write_recipe(parse_recipe("model: 模型\ndata: 数据.json\nlr: 1e-5", name="r"))
    assert "train: 数据.json" in text
    assert "learning_rate: 1.0e-5" in text
    for section in (Recipe, DataSettings, LoraSettings, TrainingSettings):
        keys = set(section.model_fields) - {*LANGUAGE_KEYS, *VARIANT_KEYS, "quantization"}
        assert all(f"{key}:" in text for key in keys)


def test_nothing_about_languages_is_written_for_a_base_that_has_none() -> None:
    text = "model: m\ndata: {train: a.json, source_lang: %s}"
    assert "lang" not in write_recipe(parse_recipe(text % "null", name="r"))
    assert "source_lang: deu_Latn" in write_recipe(parse_recipe(text % "deu_Latn", name="r"))


def test_the_commented_recipe_holds_what_was_learnt_about_the_data() -> None:
    text = commented_recipe(
        "google/mt5-small",
        {
            "train": "我的 数据: 1.json",
            "columns": {"instruction": "q", "response": "no"},
            "conversation_history": True,
        },
        layout="instruction/output rows",
        size="1,234 rows",
        max_source_length=64,
        max_target_length=512,
    )
    reading = parse_recipe_with_notes(text, name="recipe.yaml")
    data = DataSettings(
        train="我的 数据: 1.json",
        columns={"instruction": "q", "response": "no"},
        conversation_history=True,
        max_source_length=64,
        max_target_length=512,
    )
    assert reading.recipe == Recipe(model_name_or_path="google/mt5-small", data=data)
    assert reading.notes == ()
    assert "# Data: 1,234 rows, recognised as instruction/output rows\n" in text
    assert f"  # {LoraSettings.model_fields['r'].description}\n  r: 16\n" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_size_of_the_data_is_said_as_it_is_given() -> None:
    assert "# Data: about 1,234 rows\n" in commented_recipe(
        "starter", {"train": "a.json"}, size="about 1,234 rows"
    )


def test_the_commented_recipe_names_the_variants() -> None:
    """None is set, and each name is a setting."""
    text = commented_recipe("starter", {"train": "starter"})
    lines = text.partition("Variants of LoRA")[2].partition("\n\n")[0]
    names = re.findall(r"\w+", lines.partition(":")[2])
    assert names == list(VARIANT_KEYS)
    assert parse_recipe(text, name="recipe").lora.variant == {}
    assert {"use_dora", "modules_to_save"} <= set(names) <= LoraSettings.model_fields.keys()


def test_the_commented_recipe_needs_a_model_and_data_only() -> None:
    text = commented_recipe("starter", {"train": "starter"})
    assert parse_recipe(text, name="r") == parse_recipe("model: starter\ndata: starter", name="r")
    assert "columns" not in text
    assert "# Data" not in text


def test_at_least_two_recipes_are_shipped() -> None:
    assert {"article", "mt0-large"} <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_reads_without_a_note(name: str) -> None:
    reading = read_recipe_with_notes(name)
    assert reading.notes == ()
    assert reading.recipe.folder == Path()
    assert read_recipe(shipped_recipes()[name]) == reading.recipe
    written = yaml.safe_load(write_recipe(reading.recipe))
    assert list(errors(written, recipe_schema())) == []


def test_the_articles_experiments_are_the_articles() -> None:
    few, every, slow = read_recipe("article").resolved_experiments
    assert (few.lora.r, few.lora.lora_alpha, few.lora.lora_dropout) == (16, 32, 0.1)
    assert few.lora.target_modules == ["q", "v"]
    assert every.lora.target_modules == slow.lora.target_modules == ["q", "k", "v", "o", "wi_0", "wi_1", "wo"]
    assert [e.training.learning_rate for e in (few, every, slow)] == [9.65e-6, 9.65e-6, 9.65e-7]
    assert {e.training.base_dropout for e in (few, every, slow)} == {"model"}


def test_a_file_goes_before_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "article").mkdir()
    assert read_recipe("article").seed == 42
    (tmp_path / "mt0-large").write_text("model: x\ndata: y\nseed: 1\n")
    reading = read_recipe_with_notes("mt0-large")
    assert (reading.recipe.seed, reading.recipe.folder) == (1, tmp_path)
    assert read_recipe_with_notes(tmp_path / "mt0-large").recipe.folder == tmp_path


class TestSchema:
    def test_every_setting_is_described(self) -> None:
        schema = recipe_schema()
        sections = [schema, *(schema["$defs"][f"{name}Settings"] for name in ("Data", "Lora", "Training"))]
        for section in sections:
            assert section["additionalProperties"] is False
            for key, value in section["properties"].items():
                assert "description" in value or "$ref" in value, key

    def test_an_experiments_changes_are_typed(self) -> None:
        changes = recipe_schema()["$defs"]["ExperimentChanges"]["properties"]
        assert changes["training"]["properties"]["learning_rate"]["exclusiveMinimum"] == 0
        assert not SHARED_TRAINING_KEYS & set(changes["training"]["properties"])
        assert "default" not in changes["lora"]["properties"]["r"]

    @pytest.mark.parametrize(
        "change",
        [{"seed": -1}, {"xyz": 1}, {"lora": {"r": 0}}, {"lora": {"r": "a"}}, {"training": {"packing": True}}],
    )
    def test_it_refuses_what_the_models_refuse(self, change: dict[str, Any]) -> None:
        recipe = {"model_name_or_path": "x", "data": {"train": "y"}, "experiments": {"a": change}}
        assert list(errors(recipe, recipe_schema()))
        with pytest.raises(ValueError, match="validation error"):
            Recipe.model_validate(recipe)


TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> list[str]:
    """As much of a JSON Schema validator as our schema needs."""
    root = root or schema
    if "$ref" in schema:
        return errors(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return (
            [] if any(not errors(value, one, root) for one in schema["anyOf"]) else [f"{value!r} fits none"]
        )
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{value!r} is no {kind}"]
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return [f"{value!r} is no choice"]
    found = [
        f"{value!r} is out of bounds"
        for bound, holds in (
            ("minimum", operator.ge),
            ("maximum", operator.le),
            ("exclusiveMinimum", operator.gt),
            ("exclusiveMaximum", operator.lt),
        )
        if bound in schema and not holds(value, schema[bound])
    ]
    if isinstance(value, list):
        found += [error for item in value for error in errors(item, schema.get("items", {}), root)]
    if isinstance(value, dict):
        found += [f"{key} is missing" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            of_key = schema.get("properties", {}).get(key, schema.get("additionalProperties", {}))
            found += [f"{key} is unknown"] if of_key is False else errors(item, of_key, root)
    return found


@pytest.mark.parametrize("name", ["yaml_tree", "setting_names", "overrides", "writing"])
def test_examples_in_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"loraloom.recipe.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
