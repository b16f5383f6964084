"""`--set key=value` takes the place of what the file says, and is named where it is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from loraloom.errors import RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe

TEXT = """\
model_name_or_path: starter
data: {train: a.json, columns: {instruction: q}}
training:
  learning_rate: 1e-3
experiments:
  slow: {training: {learning_rate: 1e-5}}
  v1.5: {seed: 1}
"""


def read(*sets: str, text: str = TEXT) -> Recipe:
    return parse_recipe(text, name="recipe.yaml", sets=sets)


@pytest.mark.parametrize(
    ("option", "path", "value"),
    [
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("lr=1e-4", "training.learning_rate", 1e-4),
        ("training={lr: 1e-4}", "training.learning_rate", 1e-4),
        ("training.learning_rate=null", "training.learning_rate", 3e-4),
        ("training.learning_rate=", "training.learning_rate", 3e-4),
        ("targets=[q, v]", "lora.target_modules", ["q", "v"]),
        ("targets=q,v", "lora.target_modules", ["q", "v"]),
        ("data.train=b=c.json", "data.train", "b=c.json"),
        ("data.train=2024", "data.train", "2024"),
        ("data=b.json", "data.train", "b.json"),
        ("data.source_prefix=translate: {text} ", "data.source_prefix", "translate: {text} "),
        ("data.source_prefix='# '", "data.source_prefix", "# "),
        ("data.source_prefix=", "data.source_prefix", ""),
        ("data.columns.response=a", "data.columns", {"instruction": "q", "response": "a"}),
        ("data.columns=null", "data.columns", {}),
        ("seed=7", "seed", 7),
        ("dtype=bf16", "dtype", "bfloat16"),
    ],
)
def test_an_option_takes_the_place_of_the_file(option: str, path: str, value: Any) -> None:
    found: Any = read(option)
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_experiments_can_be_changed_added_and_left_out() -> None:
    changed = read(
        "experiments.slow.training.learning_rate=1e-6", "experiments.v1.5.r=4", "experiments.new.seed=2"
    )
    assert changed.experiments == {
        "slow": {"training": {"learning_rate": 1e-6}},
        "v1.5": {"seed": 1, "lora": {"r": 4}},
        "new": {"seed": 2},
    }
    assert list(read("experiments.slow=null").experiments) == ["v1.5"]
    assert read("experiments=null").experiments == {}
    assert read("experiments.plain={}").experiments["plain"] == {}


def test_of_two_options_the_later_holds() -> None:
    assert read("seed=1", "seed=2").seed == 2


def test_an_option_mends_what_is_wrong_in_the_file() -> None:
    assert read("lr=1e-4", text=TEXT.replace("1e-3", "-1")).training.learning_rate == 1e-4
    assert read("fp16=false", text=TEXT + "fp16: true\n").dtype == "auto"


def test_options_alone_can_make_a_recipe() -> None:
    assert read("model=starter", "data=a.json", text="").data.train == "a.json"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("lr=-1", "--set lr=-1: `training.learning_rate` must be greater than 0 (found: -1)"),
        ("lora.rnk=1", "--set lora.rnk=1: unknown key `lora.rnk`. Did you mean `lora.r`?"),
        (
            "lr",
            "--set lr: this has no value. Write it as key=value, e.g. --set training.learning_rate=1e-4.",
        ),
        ("=1", "--set =1: this is not a setting. Write it as key=value"),
        ("lora..r=1", "--set lora..r=1: this is not a setting"),
        ("fp16=true", "--set fp16=true: `fp16: true` is refused"),
        ("training={lr: 1", "--set training={lr: 1: `training` must be a mapping of settings"),
        ("lora=5", "--set lora=5: `lora` must be a mapping"),
        ("lora.r.x=5", "--set lora.r.x=5: `lora.r` must be a whole number (found: a mapping)"),
        (
            "experiments.slow.packing=true",
            "--set experiments.slow.packing=true: `experiments.slow.training.packing` cannot",
        ),
        ("model=", "`model_name_or_path` is missing"),
        ("\x00=1", "--set \\x00=1: unknown key `\\x00`"),
    ],
)
def test_a_wrong_option_is_named(option: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(option)
    assert message in str(caught.value)
