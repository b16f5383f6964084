"""Comments in files break where a reader of their language expects it."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from loraloom.recipe import DataSettings, LoraSettings, TrainingSettings
from loraloom.recipe.writing import commented_recipe
from loraloom.text.catalogue import use_catalogue
from loraloom.text.language import catalogue_of
from loraloom.text.line_breaks import lines_of

VARIANTS = "LoRA 的变体，可以写在这里或单个实验中：rank_pattern、alpha_pattern、layers_to_transform。"


def test_a_chinese_comment_fills_its_lines_by_the_columns_that_characters_take() -> None:
    assert lines_of(VARIANTS, 56) == [
        "LoRA 的变体，可以写在这里或单个实验中：rank_pattern、",
        "alpha_pattern、layers_to_transform。",
    ]


@pytest.mark.parametrize("width", range(24, 100))
def test_a_word_of_letters_stands_on_no_line_alone(width: int) -> None:
    text = "训练时 A 之前的 dropout，各自可用前缀限定范围，并且不改变 lora_dropout。"
    found = lines_of(text, width)
    assert all(cell_len(line) <= width for line in found)
    assert not any(line.strip("。") == "lora_dropout" for line in found)


def test_no_space_is_left_between_chinese_sentences() -> None:
    assert lines_of("学习率的峰值。 按 T5 类模型的规则得出。", 100) == [
        "学习率的峰值。按 T5 类模型的规则得出。"
    ]
    assert lines_of("The peak. By the rule.", 100) == ["The peak. By the rule."]


def test_english_comments_are_as_textwrap_breaks_them() -> None:
    for section in (DataSettings, LoraSettings, TrainingSettings):
        for field in section.model_fields.values():
            text = " ".join(str(field.description).split())
            wanted = textwrap.wrap(text, 60, break_long_words=False, break_on_hyphens=False)
            assert lines_of(text, 60) == wanted


@given(text=st.text("ab 中，（1.5%`…。", max_size=60), width=st.integers(2, 30))
def test_nothing_is_lost(text: str, width: int) -> None:
    found = lines_of(text, width)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(line and line == line.strip() for line in found)


def test_the_comments_of_a_new_recipe_fit_their_lines() -> None:
    with use_catalogue(catalogue_of("zh")):
        recipe = commented_recipe("base", {"train": "rows.json"}, learning_rate=1e-3, rate_remark="规则。")
    comments = [line for line in recipe.splitlines() if line.lstrip().startswith("# ")]
    assert any(line.startswith("  # LoRA 的变体，") for line in comments)
    assert max(map(cell_len, comments)) <= 104


def test_what_is_before_a_long_last_word_stays_on_its_line() -> None:
    address = "https://example.com/" + "x" * 15
    assert lines_of(f"见文档 see {address}", 36) == ["见文档 see", address]
