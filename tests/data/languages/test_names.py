"""Which code is suggested to somebody who writes another name of a language."""

from __future__ import annotations

import pytest
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES as MBART50
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB

from loraloom.data.languages.names import language_of, suggest


@pytest.mark.parametrize(
    ("name", "codes", "meant"),
    [
        ("de", NLLB, "deu_Latn"),
        ("deu_Latn", MBART50, "de_DE"),
        ("de_DE", NLLB, "deu_Latn"),
        ("en_XX", NLLB, "eng_Latn"),
        ("en", MBART50, "en_XX"),
        ("__de__", M2M100["m2m100"], "de"),
        ("deu_latn", NLLB, "deu_Latn"),
        ("zh", NLLB, "zho_Hans"),
        ("zho_hant", NLLB, "zho_Hant"),
        ("zh_Hant", NLLB, "zho_Hant"),
        ("zh-CN", MBART50, "zh_CN"),
        ("ar", NLLB, "arb_Arab"),
        ("fa", NLLB, "pes_Arab"),
        ("no", NLLB, "nob_Latn"),
        ("deu_Lant", NLLB, "deu_Latn"),
        ("xx", NLLB, ""),
        ("Klingon", NLLB, ""),
        ("", NLLB, ""),
    ],
)
def test_the_code_that_was_meant(name: str, codes: list[str], meant: str) -> None:
    assert suggest(name, codes) == meant


def test_every_code_of_one_kind_has_its_language_in_nllb() -> None:
    """All but the languages that NLLB does not have."""
    known = {language_of(code) for code in NLLB}
    missing = [code for code in (*MBART50, *M2M100["m2m100"]) if language_of(code) not in known]
    assert missing == ["br", "fy"]
    assert all(suggest(code, NLLB) for code in MBART50)


def test_the_codes_of_iso_639_1_are_each_of_one_language() -> None:
    assert len({code for code in NLLB if language_of(code) == "deu"}) == 1
    assert language_of("x1") == language_of("12") == language_of("a_b") == ""
