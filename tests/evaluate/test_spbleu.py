"""spBLEU equals sacrebleu's own, given the file that it would download."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from sacrebleu.metrics import BLEU
from sacrebleu.tokenizers import tokenizer_spm

from loraloom.errors import DataError
from loraloom.evaluate.spbleu import given_metrics
from tests.sentencepiece_folders import make_spiece

ANSWERS = ["the quick fox 我感到", "over the dog", ""]
REFERENCES = ["the quick brown fox 我感到焦虑", "over the lazy dog", "jumps"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_spiece(tmp_path_factory.mktemp("pieces"), None) / "spiece.model"


def test_it_equals_sacrebleus_with_the_same_pieces(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    shutil.copy(model, tmp_path / "models" / "sacrebleu_tokenizer_spm.model")
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    theirs = BLEU(tokenize="flores101").corpus_score(ANSWERS, [REFERENCES]).score
    metric = given_metrics(model)["spbleu"]
    assert metric.compute(ANSWERS, REFERENCES) == pytest.approx(theirs)
    # Words without the pieces would give another figure.
    assert theirs != pytest.approx(BLEU().corpus_score(ANSWERS, [REFERENCES]).score, rel=0.01)


def test_its_signature_has_the_models_sha256(model: Path) -> None:
    signature = given_metrics(model)["spbleu"].signature(REFERENCES)
    assert f"|tok:spm|spm:sha256:{sha256(model.read_bytes()).hexdigest()[:16]}|" in signature
    assert signature.endswith("|norm:NFKC")


@pytest.mark.parametrize("name", ["missing.model", "text.model", "."])
def test_what_is_no_sentencepiece_model_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.model").write_text("no model", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read as a sentencepiece model"):
        given_metrics(tmp_path / name)


def test_without_a_model_there_is_none() -> None:
    assert given_metrics(None) == {}
