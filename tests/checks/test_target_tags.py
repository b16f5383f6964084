"""Tags of target languages: opus-mt's and MADLAD-400's, known, unknown, torn and missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.base.tokenizer_loading import load_tokenizer
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.data.target_tags import check_target_tags
from tests.checks.data_rows import only, seen
from tests.sentencepiece_folders import make_madlad_tokenizer


@pytest.fixture(scope="module", params=["marian", "madlad"])
def tokenizer(
    request: pytest.FixtureRequest, tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> TextTokenizer:
    """One of each kind, as the checks load it."""
    if request.param == "marian":
        folder = tiny("marian")
    else:
        folder = make_madlad_tokenizer(tmp_path_factory.mktemp("madlad"))
    return TextTokenizer.of_transformers(load_tokenizer(str(folder), "it")[0])


def tags(tokenizer: TextTokenizer) -> tuple[str, str, str]:
    """Two that it has, one that it has not."""
    if ">>fra<<" in tokenizer.target_tags:
        return ">>fra<<", ">>deu<<", ">>xxx<<"
    return "<2fr>", "<2de>", "<2xx>"


def test_known_tags_pass(tokenizer: TextTokenizer) -> None:
    first, second, _ = tags(tokenizer)
    rows = [(f"{first} the fox", "a"), (f"{second} the dog", "b")]
    assert only(check_target_tags(seen(rows, tokenizer=tokenizer))).level == "ok"


def test_unknown_ones_are_an_error_that_names_them(tokenizer: TextTokenizer) -> None:
    first, _, unknown = tags(tokenizer)
    found = only(check_target_tags(seen([(f"{first} a", "a"), (f"{unknown} b", "b")], tokenizer=tokenizer)))
    assert (found.level, found.where) == ("error", "data.jsonl:2")
    assert f"2 (50 %) sources begin with a tag that the base does not know ({unknown})" in found.message
    assert first in found.fix
    ids = tokenizer.ids([f"{unknown} b"])[0]
    assert tokenizer.unk_token_id in ids  # what the obvious code trains on


def test_a_space_before_opus_mts_tears_it(tiny: Callable[[str], Path]) -> None:
    tokenizer = TextTokenizer.of_transformers(load_tokenizer(str(tiny("marian")), "it")[0])
    found = only(check_target_tags(seen([(" >>fra<< a", "a"), (">>fra<< b", "b")], tokenizer=tokenizer)))
    assert (found.level, found.where) == ("error", "data.jsonl:1")
    assert "splits into pieces" in found.message


def test_rows_without_tags_are_a_warning(tokenizer: TextTokenizer) -> None:
    first, _, _ = tags(tokenizer)
    found = only(check_target_tags(seen([(f"{first} a", "a"), ("b", "b")], tokenizer=tokenizer)))
    assert (found.level, found.where) == ("warning", "data.jsonl:2")
    assert "data.source_prefix" in found.fix


def test_tags_that_the_base_has_none_of_are_a_warning_and_texts_of_others_are_nothing(
    tiny: Callable[[str], Path],
) -> None:
    tokenizer = TextTokenizer.of_folder(tiny("mt5"))
    found = only(check_target_tags(seen([(">>fra<< a", "a"), ("b", "b")], tokenizer=tokenizer)))
    assert (found.level, found.where) == ("warning", "data.jsonl:1")
    plain = only(check_target_tags(seen([("a <2 b", "a"), ("b >> c", "b")], tokenizer=tokenizer)))
    assert (plain.level, plain.check) == ("ok", "target-tags")
