"""The language codes of tokenizers: where they stand, and folders that lack them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, MBartTokenizer, NllbTokenizer

from loraloom.architectures.families import FAMILIES
from loraloom.architectures.tokenizer_languages import find_languages
from loraloom.base.loading import load_base
from loraloom.errors import ModelError, RecipeError
from loraloom.recipe.reading import parse_recipe
from tests.tiny import make_tokenizer
from tests.tiny_multilingual import NLLB_CODES, make_multilingual_tokenizer


@pytest.mark.parametrize(
    ("kind", "code", "begins_source", "begins_target", "num_codes"),
    [
        ("m2m100", "de", True, True, 100),
        ("nllb", "deu_Latn", True, True, len(NLLB_CODES)),
        ("mbart", "de_DE", False, False, 25),
        ("mbart50", "de_DE", True, True, 52),
    ],
)
def test_codes_and_where_they_stand(
    tmp_path: Path, kind: str, code: str, begins_source: bool, begins_target: bool, num_codes: int
) -> None:
    tokenizer: Any = make_multilingual_tokenizer(tmp_path, kind)
    family = FAMILIES["mbart" if kind.startswith("mbart") else "m2m_100"]
    languages = family.languages(AutoTokenizer.from_pretrained(tmp_path), "it")
    assert languages is not None
    assert len(languages.codes) == num_codes
    assert (languages.begins_source, languages.begins_target) == (begins_source, begins_target)
    tokenizer.src_lang = code
    assert languages.source([tokenizer.eos_token_id], code) == tokenizer("")["input_ids"]


def test_the_legacy_form_of_nllb_is_kept_in_sources_alone(tmp_path: Path) -> None:
    """`generate` forces the code as first token in every form, so answers begin with it."""
    make_multilingual_tokenizer(tmp_path, "nllb")
    legacy = NllbTokenizer.from_pretrained(tmp_path, legacy_behaviour=True)
    languages = find_languages(legacy, "it", begins_target=True)
    assert languages is not None
    code = languages.codes["deu_Latn"]
    assert languages.source([5, 2], "deu_Latn") == [5, 2, code]
    assert languages.target([5, 2], "deu_Latn") == [code, 5, 2]


def test_a_tokenizer_with_every_language_unknown_is_refused(tmp_path: Path) -> None:
    """As NLLB's becomes that is made of its sentencepiece model alone."""
    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", "a"])}
    bare = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=[])
    assert bare.convert_tokens_to_ids("deu_Latn") == bare.unk_token_id
    with pytest.raises(ModelError, match=r"nllb: its tokenizer has no language codes.*copy tokenizer.json"):
        FAMILIES["m2m_100"].languages(bare, "nllb")


def test_a_monolingual_relative_of_mbart_has_no_languages() -> None:
    assert FAMILIES["mbart"].languages(make_tokenizer(bos=True), "barthez") is None
    assert FAMILIES["t5"].languages(make_tokenizer(), "t5") is None


def test_text_like_a_code_is_no_code(tmp_path: Path) -> None:
    """A large vocabulary has pieces such as `en_US`; only a token held apart from text is a code."""
    scored = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>", "▁", "xx_YY")]
    tokenizer = MBartTokenizer(vocab=[*scored, *((code, 0.0) for code in ("en_XX", "de_DE"))])
    languages = find_languages(tokenizer, "it")
    assert languages is not None
    assert "xx_YY" not in languages.codes


def recipe(folder: Path, *lines: str) -> Any:
    data = "\n".join(f"  {line}" for line in ("train: a.jsonl", *lines))
    return parse_recipe(f"model_name_or_path: {folder}\ndata:\n{data}\n", name="r.yaml")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("source_lang: de", "target_lang: eng_Latn"), r"data.source_lang: `de` is not a language.*deu_Latn"),
        (("language_codes: {de: deu}",), r"data.language_codes.de: `deu` is not a language"),
    ],
)
def test_languages_that_a_base_does_not_know_are_refused_with_the_setting(
    tmp_path: Path, lines: tuple[str, ...], said: str, tiny: Callable[[str], Path]
) -> None:
    with pytest.raises(RecipeError, match=said):
        load_base(str(tiny("m2m100")), device="cpu", recipe=recipe(tmp_path, *lines))


def test_languages_for_a_base_without_codes_are_refused(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """T5 says the task in words: a setting that changes nothing is not taken in silence."""
    with pytest.raises(RecipeError, match=r"data.source_lang: this mT5 has no language codes"):
        load_base(str(tiny("mt5")), device="cpu", recipe=recipe(tmp_path, "source_lang: deu_Latn"))
