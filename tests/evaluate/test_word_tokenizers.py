"""BLEU counts words, so it is computed where something cuts the text into words, and left out elsewhere."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU

from loraloom.base.answer_text import AnswerText
from loraloom.evaluate import metrics
from loraloom.evaluate.metrics import METRICS
from loraloom.evaluate.scoring import score_against
from loraloom.evaluate.word_tokenizers import words_of
from tests.tiny import make_tokenizer


def answer_text() -> AnswerText:
    tokenizer = make_tokenizer()
    return AnswerText(tokenizer, {tokenizer.pad_token_id, tokenizer.eos_token_id})


TEXTS = {
    "Chinese": "我今天感到很焦虑，应该怎么办呢？",
    "Japanese": "今日はとても不安です。どうすればいいですか。",
    "Korean": "오늘은 매우 불안합니다. 어떻게 해야 할까요?",
    "Thai": "วันนี้ฉันรู้สึกกังวลมาก ควรทำอย่างไรดี",
    "Lao": "ມື້ນີ້ຂ້ອຍຮູ້ສຶກກັງວົນຫຼາຍ",
    "Khmer": "ថ្ងៃនេះខ្ញុំមានអារម្មណ៍ព្រួយបារម្ភ",
    "Burmese": "ဒီနေ့ ကျွန်တော် အရမ်း စိုးရိမ်နေတယ်",
    "Tibetan": "དེ་རིང་ང་སེམས་ཁྲལ་ཆེན་པོ་ཡོད།",
    "spaced": "today I feel very anxious, what should I do?",
}
TOKENIZERS = {"Chinese": "zh", "Japanese": "ja-mecab", "Korean": "ko-mecab", "spaced": "13a"}


@pytest.mark.parametrize("script", TEXTS)
def test_the_script_decides_the_tokenizer(script: str) -> None:
    words = words_of([TEXTS[script]])
    assert (words.script, words.tokenizer, words.signature) == (script, TOKENIZERS.get(script), "")


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("東京都庁舎展望室は本日休業", "Japanese"),  # few kana among many Han letters
        ("我们の店", "Japanese"),
        ("这家店叫做の物，在上海很有名，去过的人都说好", "Chinese"),
        ("ｶﾀｶﾅ", "Japanese"),
        ("Привет, как дела", "spaced"),
        ("नमस्ते दुनिया", "spaced"),
        ("1 + 2 = 3", "spaced"),
        ("", "spaced"),
        ("cat 猫", "spaced"),
    ],
)
def test_texts_that_are_near_a_border(text: str, script: str) -> None:
    assert words_of([text]).script == script


def test_of_mixed_languages_the_signature_says_what_was_chosen_and_what_the_rest_is() -> None:
    references = [TEXTS["Chinese"]] * 3 + [TEXTS["spaced"]]
    words = words_of(references)
    assert words.tokenizer == "zh"
    assert words.signature == "|letters:Chinese 55 %, spaced 45 %"
    assert METRICS["bleu"].signature(references).endswith("|norm:NFKC|letters:Chinese 55 %, spaced 45 %")


@pytest.mark.parametrize("script", ["Thai", "Lao", "Khmer", "Burmese", "Tibetan"])
def test_without_a_tokenizer_there_is_no_figure_and_the_signature_says_why(script: str) -> None:
    text = [TEXTS[script]] * 8
    scoring = score_against(text, answer_text())
    figures = scoring.figures(text)
    assert "bleu" not in figures
    assert scoring.signatures["bleu"].startswith(f"not computed: sacrebleu has no tokenizer for {script}")
    assert figures["exact_match"] == 1
    assert figures["chrf"] == figures["rouge_l"] == pytest.approx(100)


@pytest.mark.parametrize(("script", "extra"), [("Japanese", "ja"), ("Korean", "ko")])
def test_a_missing_extra_is_named_with_its_install_line(
    script: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(tokenizer: str) -> BLEU:
        raise RuntimeError(f"Please install them: pip install sacrebleu[{extra}]")

    monkeypatch.setattr(metrics, "_bleu", missing)
    scoring = score_against([TEXTS[script]] * 8, answer_text())
    assert "bleu" not in scoring.metrics
    assert f"pip install 'loraloom[{extra}]'" in scoring.signatures["bleu"]
    assert scoring.signatures["bleu"].startswith("not computed: ")


@pytest.mark.parametrize(
    ("script", "module", "name"), [("Japanese", "MeCab", "ja-mecab"), ("Korean", "mecab_ko", "ko-mecab")]
)
def test_with_the_extra_the_figure_is_sacrebleus(script: str, module: str, name: str) -> None:
    pytest.importorskip(module, reason="an extra of its own")
    text = [TEXTS[script]]
    assert BLEU().corpus_score(text, [text]).score == pytest.approx(0.0) or script == "Korean"
    assert METRICS["bleu"].compute(text, text) == pytest.approx(100)
    other = [text[0][:12]]
    assert METRICS["bleu"].compute(other, text) == pytest.approx(
        BLEU(tokenize=name).corpus_score(other, [text]).score
    )
    assert f"tok:{name}" in METRICS["bleu"].signature(text)
