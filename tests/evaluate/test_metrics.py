"""BLEU, ROUGE-L and the descriptions, held against sacrebleu and against brute force."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from loraloom.evaluate.metrics import (
    METRICS,
    common_subsequence,
    distinct,
    is_repetitive,
    normalise,
    share_changed,
)
from loraloom.evaluate.word_tokenizers import words_of

CHINESE = "我你他她们的是不了在有和好，。？！"
LATIN = ["the", "cat", "sat", "on", "a", "mat", "and", "it", "was", "good", ".", ",", "?"]


def rows(seed: int, num: int, chinese: bool) -> list[str]:
    draw = random.Random(seed)
    if chinese:
        return ["".join(draw.choices(CHINESE, k=draw.randint(0, 25))) for _ in range(num)]
    return [" ".join(draw.choices(LATIN, k=draw.randint(0, 15))) for _ in range(num)]


@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize("num", [1, 3, 40])
def test_bleu_equals_sacrebleu(num: int, chinese: bool) -> None:
    for seed in range(20):
        answers, references = rows(seed, num, chinese), rows(seed + 100, num, chinese)
        tokenizer = words_of(references).tokenizer
        pairs = [normalise(a) for a in answers], [[normalise(r) for r in references]]
        expected = BLEU(tokenize=tokenizer).corpus_score(*pairs).score
        assert METRICS["bleu"].compute(answers, references) == pytest.approx(expected, abs=1e-9)


def test_bleu_of_chinese_is_not_zero_as_with_the_default_tokenizer() -> None:
    text = ["我今天感到很焦虑，应该怎么办呢？"]
    assert BLEU().corpus_score(text, [text]).score == pytest.approx(0.0, abs=1e-6)
    assert METRICS["bleu"].compute(text, text) == pytest.approx(100)
    assert "tok:zh" in METRICS["bleu"].signature(text)


def longest_common_subsequence(a: str, b: str) -> int:
    """The textbook table."""
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a, start=1):
        for j, y in enumerate(b, start=1):
            table[i, j] = table[i - 1, j - 1] + 1 if x == y else max(table[i - 1, j], table[i, j - 1])
    return int(table[-1, -1])


@settings(max_examples=200, deadline=None)
@given(st.text("abc我你", max_size=80), st.text("abc我你", max_size=80))
def test_the_common_subsequence_is_the_textbook_one(a: str, b: str) -> None:
    assert common_subsequence(a, b) == longest_common_subsequence(a, b)


def test_rouge_l_is_the_mean_f1_over_rows() -> None:
    answers, references = ["我很好", ""], ["我不好", "好"]
    expected = 100 * (2 * 2 / 6 + 0) / 2
    assert METRICS["rouge_l"].compute(answers, references) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_figure_of_many_sums_is_that_of_each(name: str) -> None:
    metric = METRICS[name]
    statistics = metric.statistics(rows(1, 12, True), rows(2, 12, True))
    sums = np.stack([statistics[:4].sum(0), statistics[4:].sum(0), np.zeros(statistics.shape[1])])
    together = metric.figure(sums)
    assert together.shape == (3,)
    assert list(together) == pytest.approx([float(metric.figure(one)) for one in sums])
    assert np.isfinite(together).all()


@pytest.mark.parametrize("name", ["chrf", "bleu", "rouge_l"])
def test_a_perfect_answer_has_the_highest_figure(name: str) -> None:
    text = ["遇到压力时，先停下来深呼吸几次，再想想下一步。"]
    assert METRICS[name].compute(text, text) == pytest.approx(100)


def test_full_and_half_width_marks_are_the_same_answer() -> None:
    assert METRICS["exact_match"].compute(["怎么办?"], ["怎么办？"]) == 1


def test_an_answer_stuck_in_a_loop_is_repetitive_and_a_normal_one_is_not() -> None:
    assert is_repetitive("慢慢来就好。" * 6)
    assert not is_repetitive("遇到压力时，先停下来深呼吸几次，再想想下一步可以做什么。")
    assert not is_repetitive("冷静")


def test_distinct_counts_different_grams() -> None:
    assert distinct(["ab", "ab"], 2) == 0.5
    assert distinct([""], 1) == 0


def test_only_answers_that_differ_count_as_changed() -> None:
    assert share_changed(["a", "b", "c", "d"], ["a", "b", "x", "d"]) == 0.25
