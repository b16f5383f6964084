"""chrF is sacrebleu's, after NFKC on both sides."""

from __future__ import annotations

import random

import pytest
from sacrebleu.metrics import CHRF

from loraloom.evaluate.metrics import METRICS, TRANSLATION_METRICS, normalise

CHRF_METRIC = METRICS["chrf"]
ANSWERS = ["你可以先休息一下。", "I would talk to her first.", "", "The same.", "我们一起想办法吧!"]
REFERENCES = ["你可以先休息，再做决定。", "Talk to her calmly.", "Something.", "The same.", "我们一起想办法"]


def test_it_equals_sacrebleu_over_all_rows_together() -> None:
    assert CHRF_METRIC.compute(ANSWERS, REFERENCES) == pytest.approx(
        CHRF().corpus_score([normalise(a) for a in ANSWERS], [[normalise(r) for r in REFERENCES]]).score
    )


@pytest.mark.parametrize(("answer", "reference"), list(zip(ANSWERS, REFERENCES, strict=True)))
def test_it_equals_sacrebleu_on_single_rows(answer: str, reference: str) -> None:
    expected = CHRF().corpus_score([normalise(answer)], [[normalise(reference)]]).score
    assert CHRF_METRIC.compute([answer], [reference]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("written", "decoded"),
    [
        ("你好？我很好！", "你好?我很好!"),  # what a T5 tokenizer makes of full-width punctuation
        ("ＡＢＣ１２３", "ABC123"),
        ("ﬁne", "fine"),
        ("cafe\u0301", "café"),
        ("  spaces at the ends \n", "spaces at the ends"),
    ],
)
def test_what_a_tokenizer_normalises_is_no_mistake(written: str, decoded: str) -> None:
    assert CHRF_METRIC.compute([decoded], [written]) == pytest.approx(100)
    assert CHRF_METRIC.compute([written], [decoded]) == pytest.approx(100)
    assert METRICS["exact_match"].compute([decoded], [written]) == 1.0


def test_what_differs_is_a_mistake() -> None:
    assert CHRF_METRIC.compute(["你好吗"], ["再见了"]) == 0
    assert 0 < CHRF_METRIC.compute(["你好吗"], ["你好啊"]) < 100


def test_its_signature_names_version_and_normalisation() -> None:
    signature = CHRF_METRIC.signature(REFERENCES)
    assert "version:" in signature
    assert signature.endswith("norm:NFKC")


def test_chrf_plus_plus_equals_sacrebleu() -> None:
    """With the word orders that its authors chose, and so named in its signature."""
    metric = TRANSLATION_METRICS["chrf_plus_plus"]
    draw = random.Random(3)
    words = ["the", "cat", "sat", "on", "a", "mat.", "猫", "坐", ""]
    for num in (1, 2, 20):
        answers, references = (
            [" ".join(draw.choices(words, k=draw.randint(0, 9))) for _ in range(num)] for _ in range(2)
        )
        pairs = [normalise(a) for a in answers], [[normalise(r) for r in references]]
        expected = CHRF(word_order=2).corpus_score(*pairs).score
        assert metric.compute(answers, references) == pytest.approx(expected, abs=1e-9)
    assert "nw:2" in metric.signature(["a b"])
