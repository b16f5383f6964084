"""References are compared as the model can write them: what its tokenizer folds is not held against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import AddedToken
from transformers import ByT5Tokenizer, T5Tokenizer

from loraloom.base.answer_text import AnswerText
from loraloom.evaluate.expressible_references import expressible
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.scoring import score_against
from tests.tiny import make_tokenizer

LINES = [
    "the cat sat on a mat and it was good",
    "遇到压力时，先停下来深呼吸几次",
    "one two",
    "abc , . ? ! : def",
] * 5


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer as T5's is: sentencepiece with its own normalisation, nmt_nfkc."""
    folder = tmp_path_factory.mktemp("spiece")
    with (folder / "spiece.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES),
            model_writer=file,
            vocab_size=90,
            character_coverage=1.0,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    return T5Tokenizer.from_pretrained(str(folder), extra_ids=0)


def answers_of(tokenizer: Any) -> AnswerText:
    return AnswerText(tokenizer, {tokenizer.pad_token_id, tokenizer.eos_token_id})


def perfect(tokenizer: Any, references: list[str]) -> list[str]:
    """What a model says that has learnt every reference by heart."""
    return answers_of(tokenizer).texts(tokenizer(references)["input_ids"])


UNSEEN = {
    "line break": "the cat\nsat on\n\na mat",
    "windows": "the cat\r\nsat on a mat",
    "spaces": "the  cat   sat",
    "tab": "the\tcat",
    "indent": "the cat:\n    sat on\n    a mat",
    "chinese": "遇到压力时，\n先停下来",
    "line separator": "the cat\u2028sat",
    "zero width": "the\u200bcat",
    "soft hyphen": "the\xadcat",
    "joiner": "压\u200d力",
    "mark": "the\ufeffcat \u200esat",
    "variation": "the\ufe0fcat",
}


@pytest.mark.parametrize("reference", UNSEEN.values(), ids=UNSEEN)
def test_a_perfect_answer_has_the_highest_figures(t5: Any, reference: str) -> None:
    references = [reference, "the cat sat on a mat", "one two"]
    answers = perfect(t5, references)
    assert METRICS["exact_match"].compute(answers, references) < 1  # as it was
    scoring = score_against(references, answers_of(t5))
    figures = scoring.figures(answers)
    assert figures["exact_match"] == 1
    assert figures["length_ratio"] == 1
    for name in ("rouge_l", "chrf", "bleu"):
        assert figures[name] == pytest.approx(100)
    for name, signature in scoring.signatures.items():
        assert signature.endswith(" as tokenized (1 of 3)"), name


def test_what_was_folded_is_said_by_kind(t5: Any) -> None:
    found = expressible(["the cat\nsat", "one  two", "the\xadcat", "one two"], answers_of(t5))
    assert found.references == ["the cat sat", "one two", "the<unk>cat", "one two"]
    expected = "|refs:line breaks, tabs and runs of spaces, invisible characters as tokenized (3 of 4)"
    assert found.signature == expected


def test_a_wrong_answer_stays_wrong(t5: Any) -> None:
    scoring = score_against(["the cat\nsat on a mat"], answers_of(t5))
    assert scoring.figures(["the cat sat on a  mat"])["exact_match"] == 0
    assert scoring.figures(["thecat sat on a mat"])["exact_match"] == 0


def test_a_letter_that_the_model_cannot_write_is_still_asked_of_it(t5: Any) -> None:
    """Only its white space is folded, as that of other references is."""
    references = ["the cat\n龘", "the cat\nsat"]
    found = expressible(references, answers_of(t5))
    assert found.references == ["the cat 龘", "the cat sat"]
    assert score_against(references, answers_of(t5)).figures(perfect(t5, references))["exact_match"] == 0.5


def test_a_tokenizer_that_keeps_white_space_is_held_to_it() -> None:
    reference = ["a cat\n  sat\ton  a mat\u200b."]
    for tokenizer in (ByT5Tokenizer(extra_ids=0), make_tokenizer()):
        found = expressible(reference, answers_of(tokenizer))
        assert found.references == reference
        assert found.signature == ""
        scoring = score_against(reference, answers_of(tokenizer))
        assert scoring.figures(["a cat sat on a mat."])["exact_match"] == 0
        assert "refs:" not in scoring.signatures["exact_match"]


def test_a_line_break_that_was_added_as_a_token_is_kept(t5: Any, tmp_path: Path) -> None:
    t5.save_pretrained(tmp_path)
    tokenizer = T5Tokenizer.from_pretrained(str(tmp_path))
    tokenizer.add_tokens([AddedToken("\n", normalized=False)])
    references = ["the cat\nsat  on a mat"]
    scoring = score_against(references, answers_of(tokenizer))
    assert "\n" in scoring.references[0]
    assert scoring.figures(perfect(tokenizer, references))["exact_match"] == 1
    assert scoring.figures(["the cat sat on a mat"])["exact_match"] == 0


def test_only_the_ends_differ_and_nothing_is_said(t5: Any) -> None:
    """Figures never look at white space there."""
    assert expressible([" the cat\n", "\u3000one two"], answers_of(t5)).signature == ""
    assert METRICS["exact_match"].compute(["ＡＢＣ　１ "], ["ABC 1"]) == 1
