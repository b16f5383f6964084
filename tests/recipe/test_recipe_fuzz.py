"""Whatever comes in, a Recipe or a RecipeError comes out, and reading stays light."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loraloom.errors import RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.aliases import ALIASES, SECTION_ALIASES
from loraloom.recipe.reading import parse_recipe, read_recipe
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.setting_names import FIELDS, SECTIONS

FEW = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
KEYS = sorted(
    {path[-1] for path in FIELDS} | set(SECTIONS) | set(ALIASES) | set(SECTION_ALIASES) | set(SCRIPT_KEYS)
)
VALUES = [
    *(
        "-1",
        "0",
        "1",
        "0.5",
        "1.0",
        ".nan",
        ".inf",
        "1e400",
        "9" * 400,
        "true",
        "null",
        "''",
        "x",
        "'1e-4'",
        "no",
    ),
    *(
        "[]",
        "{}",
        "[1, [2]]",
        "{a: {b: 1}}",
        "{train: 1}",
        "{r: 1}",
        "{training: {lr: 2}}",
        "{a: 1, b: {r: 2}}",
    ),
    *(
        "'[['",
        "(",
        "[q, v]",
        "starter",
        "model",
        "epoch",
        "&a [1]",
        "*a",
        "!!set {}",
        "|\n  text",
        "2024-01-01",
    ),
]
LINES = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)), min_size=1, max_size=8)


def is_understood(text: str, *sets: str) -> None:
    with contextlib.suppress(RecipeError):
        assert isinstance(parse_recipe(text, name="r", sets=sets), Recipe)


@FEW
@given(st.text(max_size=200))
@example("\x85\u2028: [\ufeff")
@example("\ud800")
def test_any_text(text: str) -> None:
    is_understood(text)
    is_understood("model: x\ndata: y", text, f"{text}=1", f"lr={text}", f"experiments.{text}={{r: 1}}")


@FEW
@given(st.text("[]{}:,-&*!|>'\"%@`#?<~ \n\tab1.\\xuU", max_size=60))
def test_any_punctuation(text: str) -> None:
    is_understood(text)
    is_understood(f"model: x\ndata: y\nlora: {text}")


@FEW
@given(st.binary(max_size=100))
def test_any_bytes(tmp_path_factory: object, data: bytes) -> None:
    file = Path(str(tmp_path_factory.getbasetemp())) / "fuzz.yaml"  # type: ignore[attr-defined]
    file.write_bytes(data)
    with contextlib.suppress(RecipeError):
        assert isinstance(read_recipe(file), Recipe)


@settings(FEW, max_examples=300)
@given(LINES, st.sampled_from(["", "lora", "training", "data", "generation", "experiments", "experiments.a"]))
def test_any_known_keys_with_any_values(lines: list[tuple[str, str]], section: str) -> None:
    body = "model_name_or_path: x\ntrain_file: y\n"
    depth = 0
    for depth, part in enumerate(section.split(".") if section else [], start=1):
        body += f"{'  ' * (depth - 1)}{part}:\n"
    body += "".join(f"{'  ' * depth}{key}: {value}\n" for key, value in lines)
    is_understood(body)
    is_understood(
        "model: x\ndata: y", *(f"{section + '.' if section else ''}{key}={value}" for key, value in lines)
    )


def test_reading_imports_nothing_heavy() -> None:
    code = (
        "import sys, loraloom.recipe.reading as f; f.read_recipe('article'); "
        "print(sorted({'torch', 'transformers', 'peft', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
