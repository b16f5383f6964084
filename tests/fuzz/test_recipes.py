"""Recipes that were right and were then changed: a Recipe, or an error of ours whose lines are the file's."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from loraloom.errors import RecipeError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe, shipped_recipes, write_recipe
from loraloom.recipe.setting_names import FIELDS
from loraloom.search.space_file import parse_space
from tests.fuzz.budget import budget, refusal

WHOLE = """\
model_name_or_path: starter
data: {train: a.json, eval: 0.2, test: 4, source_prefix: "ask: ", max_source_length: 64}
lora: &lora {r: 8, lora_alpha: 16, lora_dropout: 0.1, target_modules: [q, v]}
training:
  learning_rate: 3.0e-4
  num_train_epochs: 4
  per_device_train_batch_size: 5
experiments:
  narrow: {lora: {<<: *lora, target_modules: [q]}}
  slow:
    training: {learning_rate: 9.65e-7}
    seed: 7
generation: {max_new_tokens: 32, num_beams: 1}
seed: 42
"""
TEXTS = [WHOLE, *(file.read_text(encoding="utf-8") for file in shipped_recipes().values())]
SPACES = [
    "lr: {low: 1.0e-5, high: 1.0e-2, log: true}\nlora:\n  r: [4, 8]\n"
    "  lora_dropout: {low: 0, high: 0.2, step: 0.05}\n"
]
PIECES = st.sampled_from(
    [
        *(
            "[",
            "]",
            "{",
            "}",
            ":",
            ": ",
            "- ",
            "#",
            "'",
            '"',
            "|",
            ">",
            "&a ",
            "*a",
            "!!x ",
            "<<: ",
            "? ",
            "\t",
        ),
        *(
            "\n",
            "---\n",
            "...\n",
            "%YAML 1.9\n",
            "\ufeff",
            "\x85",
            "\u2028",
            "\0",
            "\\",
            "1e999",
            ".nan",
            "-",
            "~",
        ),
        *("9" * 5_000, "null", "true", "base", "[[[[", "{{{{", "0x10", "1_000", "yes", "é", "\ud800"),
        *(path[-1] for path in FIELDS),
    ]
)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["drop", "double", "swap", "indent", "insert", "cut", "value", "repeat"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
        PIECES,
    ),
    min_size=1,
    max_size=5,
)


def changed(text: str, changes: list[tuple[str, float, float, str]]) -> str:
    """A text with whole lines moved about, or pieces put in."""
    for kind, share, other, piece in changes:
        lines = text.split("\n")
        at, there = int(share * len(lines)), int(other * len(lines))
        if kind == "drop":
            del lines[at]
        elif kind == "double":
            lines.insert(there, lines[at])
        elif kind == "swap":
            lines[at], lines[there] = lines[there], lines[at]
        elif kind == "indent":
            lines[at] = "  " * (there % 4) + lines[at].lstrip()
        elif kind == "value":
            lines[at] = lines[at].partition(":")[0] + ": " + piece
        elif kind == "repeat":
            lines[at] += piece * 200
        elif kind == "cut":
            lines = lines[:at]
        else:
            place = int(other * (len(lines[at]) + 1))
            lines[at] = lines[at][:place] + piece + lines[at][place:]
        text = "\n".join(lines)
    return text


def assert_lines_are_there(message: str, text: str, name: str) -> None:
    """No message sends anybody to a line that the file does not have."""
    num_lines = len(re.split("\r\n|[\r\n\x85\u2028\u2029]", text))
    named = {int(line) for line in re.findall(rf"^{re.escape(name)}:(\d+)", message, re.MULTILINE)}
    assert all(1 <= line <= num_lines for line in named), (named, num_lines)


@budget(120)
@given(text=st.sampled_from(TEXTS), changes=CHANGES)
def test_a_changed_recipe(text: str, changes: list[tuple[str, float, float, str]]) -> None:
    text = changed(text, changes)
    found: list[Recipe] = []
    message = refusal(RecipeError, lambda: found.append(parse_recipe(text, name="recipe.yaml")))
    if message is None:
        assert parse_recipe(write_recipe(found[0]), name="again") == found[0]
    else:
        assert_lines_are_there(message, text, "recipe.yaml")


@budget(60)
@given(text=st.sampled_from(SPACES), changes=CHANGES)
def test_a_changed_space(text: str, changes: list[tuple[str, float, float, str]]) -> None:
    text = changed(text, changes)
    recipe = parse_recipe("model: starter\ndata: {train: starter}", name="recipe.yaml")
    message = refusal(RecipeError, lambda: parse_space(text, name="space.yaml", recipe=recipe))
    if message is not None:
        assert_lines_are_there(message, text, "space.yaml")


@budget(60)
@given(
    number=st.integers(0, 12),
    bad=st.sampled_from(["sed: 1", "lora_r: 0", "learning_rate: fast", "seed: 7\nseed: 8", "lora: 3"]),
    comments=st.lists(st.sampled_from(["", "# x", "   ", "# : ["]), max_size=12),
)
def test_the_line_of_a_bad_key(number: int, bad: str, comments: list[str]) -> None:
    """Counted by nothing of ours: how many line breaks stand before it."""
    head = "model: starter\n" + "\n".join([*comments, "data: {train: a.json}", ""]) + "\n" * number
    message = refusal(RecipeError, lambda: parse_recipe(f"{head}{bad}\n", name="recipe.yaml"))
    line = head.count("\n") + bad.count("\n") + 1
    assert message is not None
    assert message.startswith(f"recipe.yaml:{line}: "), message


def test_no_size_makes_it_hang() -> None:
    for text in (
        "a: " + "[" * 250_000,
        "a: " + '"' + "x" * 250_000,
        "\n".join(f"k{n}: {n}" for n in range(8_000)),
        "k: &a [1]\n" + "\n".join(f"k{n}: *a" for n in range(9_000)),
        "a: &a {" + ", ".join(f"k{n}: 1" for n in range(9_000)) + "}\nb: {<<: [" + "*a, " * 200 + "*a]}",
        "- " * 100_000,
        "? " * 100_000,
        "!" * 250_000,
        "# " * 120_000,
        "a: |\n" + " x\n" * 60_000,
    ):
        assert refusal(RecipeError, lambda text=text: parse_recipe(text, name="r")) is not None  # type: ignore[misc]
