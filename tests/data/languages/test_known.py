"""Rows in languages that a base does not know."""

from __future__ import annotations

import pytest

from loraloom.data.languages.codes import Languages
from loraloom.data.languages.known import check_languages
from loraloom.errors import DataError
from tests.parity.multilingual import TextRow

NLLB = Languages({"deu_Latn": 10, "eng_Latn": 11}, begins_source=True, begins_target=True)


def row(source: str, target: str) -> TextRow:
    return TextRow("a", "b", source, target)


def test_known_languages_and_bases_without_languages_pass() -> None:
    check_languages([row("deu_Latn", "eng_Latn")], NLLB, "base")
    check_languages([row("de", "")], None, "base")


def test_each_unknown_language_is_refused_once_with_the_code_that_was_meant() -> None:
    rows = [row("de", "eng_Latn"), row("de", "xx"), row("deu_Latn", "eng_Latn")]
    with pytest.raises(DataError) as raised:
        check_languages(rows, NLLB, "base")
    first, second = map(str, raised.value.problems)
    assert "`de` is not a language of this base" in first
    assert "Did you mean deu_Latn? If the data uses `de`, set data.language_codes: {de: deu_Latn}" in first
    assert "`xx` is not a language of this base" in second
    assert "Allowed: deu_Latn, eng_Latn" in second


def test_rows_without_a_language_are_refused_with_the_settings_that_say_it() -> None:
    with pytest.raises(DataError, match=r"data.target_lang: base has 2 languages.*data.target_lang_column"):
        check_languages([row("deu_Latn", "")], NLLB, "base")


def test_rows_to_answer_are_told_the_options() -> None:
    with pytest.raises(DataError) as raised:
        check_languages([row("de", "")], NLLB, "base", to_answer=True)
    source, target = map(str, raised.value.problems)
    assert source.endswith("If you mean deu_Latn, give --source-lang deu_Latn.")
    assert target.endswith("Give --target-lang CODE, for example deu_Latn.")
