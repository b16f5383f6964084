"""What the tokenizer makes of the rows, against transformers' own and against counting by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

from loraloom.base.loading import Base
from loraloom.checks.data.light_tokenizer import FastBackend, NoTokenizerError, TextTokenizer
from loraloom.checks.data.round_trip import check_round_trip, differences
from loraloom.checks.data.tokenization import (
    check_lengths,
    check_truncation,
    check_unknown_tokens,
)
from loraloom.data.encoding import encode
from loraloom.starter import model_folder
from tests.checks.data_rows import examples, good, only, seen


@pytest.fixture(params=["mt5", "t5", "starter"])
def folder(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    """Folders of bases with a tokenizer.json."""
    return model_folder() if request.param == "starter" else tiny(request.param)


@pytest.fixture
def tokenizer(tiny: Callable[[str], Path]) -> TextTokenizer:
    """Characters as tokens, unknown ones as bytes."""
    return TextTokenizer.of_folder(tiny("mt5"))


def character_tokenizer(characters: str, *, nfkc: bool = False) -> TextTokenizer:
    """One that knows these characters alone, with an unknown token and no bytes."""
    vocabulary = {token: n for n, token in enumerate(["</s>", "<unk>", *dict.fromkeys(characters)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    if nfkc:
        backend.normalizer = normalizers.NFKC()
    backend.add_special_tokens(["</s>", "<unk>"])
    return TextTokenizer(FastBackend(backend), unk_token="<unk>", eos_token="</s>")


def test_tokens_are_those_that_training_makes(folder: Path) -> None:
    texts = [text for row in good(30) for text in row] + ["", " a  b\n", "👍 ABC", "未知𠀀字"]
    own = TextTokenizer.of_folder(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    rows = examples([(text, text) for text in texts])
    trained = encode(rows, theirs, max_source_length=10**6, max_target_length=10**6)
    assert own.ids(texts) == [row.labels.tolist() for row in trained]
    loaded = TextTokenizer.of_transformers(theirs)
    assert loaded.ids(texts) == own.ids(texts)
    assert (loaded.unk_token_id, loaded.eos_token_id) == (own.unk_token_id, own.eos_token_id)


def test_eos_is_counted_where_a_tokenizer_leaves_it_out() -> None:
    own = character_tokenizer("abc")
    assert own.ids(["ab", ""]) == [[2, 3, 0], [0]]


def test_a_folder_without_a_readable_tokenizer_says_why(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(NoTokenizerError, match=r"has no tokenizer\.json"):
        TextTokenizer.of_folder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    shutil.copy(tiny("mt5") / "tokenizer_config.json", tmp_path)
    with pytest.raises(NoTokenizerError, match="cannot be read"):
        TextTokenizer.of_folder(tmp_path)


def test_a_special_token_may_be_an_object_of_its_own(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(tiny("mt5") / "tokenizer.json", tmp_path)
    config = {"eos_token": {"content": "</s>", "lstrip": False}, "unk_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    own = TextTokenizer.of_folder(tmp_path)
    assert (own.eos_token_id, own.unk_token_id) == (1, None)


def test_percentiles_are_those_of_the_rows(tokenizer: TextTokenizer) -> None:
    rows = [("好" * n, "学" * (2 * n)) for n in range(1, 101)]
    source, response = check_lengths(seen(rows, tokenizer=tokenizer))
    assert "50 % have at most 51, 90 % 91, 95 % 96, 99 % 100, the longest 101" in source.message  # with EOS
    assert "50 % have at most 101, 90 % 181, 95 % 191, 99 % 199, the longest 201" in response.message


@pytest.mark.parametrize("limit", [50, 90, 100, 150])
def test_30_the_suggested_limits_cut_what_they_say(limit: int, tokenizer: TextTokenizer, mt5: Base) -> None:
    random = np.random.default_rng(limit)
    rows = [("好" * n, "学" * n) for n in random.integers(1, 100, 300).tolist()]
    source, _ = check_truncation(
        seen(rows, tokenizer=tokenizer, max_source_length=limit, max_target_length=10_000)
    )
    cut = encode(examples(rows), mt5.tokenizer, max_source_length=limit, max_target_length=10_000)
    if cut.num_truncated_sources == 0:
        assert source.level == "ok"
        return
    assert source.level == "warning"
    assert f"{cut.num_truncated_sources} of 300" in source.message
    suggested = int(source.fix.removesuffix(".").rpartition(": ")[2])
    after = encode(examples(rows), mt5.tokenizer, max_source_length=suggested, max_target_length=10_000)
    assert suggested > limit
    assert after.num_truncated_sources <= 3


def test_30_rows_that_are_cut_are_named(tokenizer: TextTokenizer) -> None:
    rows = [*good(10), ("好" * 300, "好"), *good(10, first=10)]
    source, response = check_truncation(seen(rows, tokenizer=tokenizer, max_target_length=300))
    assert "1 of 21 (4.8 %) training sources are cut at 256 tokens" in source.message
    assert "data.jsonl:11" in source.message
    assert source.fix == "Set data.max_source_length: 301."
    assert response.level == "ok"


def test_no_limit_is_suggested_that_a_recipe_cannot_have(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loraloom.checks.data.tokenization.MAX_TOKENS", 300)
    source, _ = check_truncation(seen([*good(10), ("好" * 300, "好")], tokenizer=tokenizer))
    assert source.fix == "Shorten these texts, or remove them."


def test_unknown_tokens_by_their_share() -> None:
    knows = character_tokenizer("".join(s + r for s, r in good(40)))
    assert {f.level for f in check_unknown_tokens(seen(good(40), tokenizer=knows))} == {"ok"}
    few = [*good(20), ("龘", "好"), *good(20, first=20)]
    source, response = check_unknown_tokens(seen(few, tokenizer=knows))
    assert (source.level, source.where) == ("warning", "data.jsonl:21")
    assert "in 1 of 41" in source.message
    assert "龘" not in str(source)
    assert response.level != "error"
    foreign = [(f"{s}{'龘' * 30}", r) for s, r in good(20)]
    assert check_unknown_tokens(seen(foreign, tokenizer=knows))[0].level == "error"


def test_33_text_that_is_spelt_in_bytes_is_a_warning(tokenizer: TextTokenizer) -> None:
    source, response = check_unknown_tokens(seen([("😀😃😄" * 5, "好")] * 20, tokenizer=tokenizer))
    assert source.level == "warning"
    assert "single bytes" in source.message
    assert response.level == "ok"


def test_32_text_comes_back_as_it_was(tokenizer: TextTokenizer) -> None:
    texts = ["مرحبا بالعالم", "👩‍👩‍👧 emoji", "漢汉", "a\nb", "héllo"]
    assert only(check_round_trip(seen([(text, text) for text in texts], tokenizer=tokenizer))).level == "ok"


@pytest.mark.parametrize(
    ("text", "back", "kinds"),
    [
        ("你好？", "你好?", ["full-width forms"]),
        ("Ａ，Ｂ", "A,B", ["full-width forms"]),
        ("一\n二", "一 二", ["line breaks"]),
        ("a  b ", "a b", ["spaces"]),
        ("a b", "ab", ["spaces"]),
        ("龘字", "字", ["Han characters"]),
        ("字😀", "字", ["emoji and symbols"]),
        ("é", "", ["letters"]),
        ("Hello", "hello", ["letters"]),
        ("2²", "22", ["full-width forms"]),
        ("一\n龘？", "一 ?", ["line breaks", "Han characters"]),
    ],
)
def test_what_is_lost_is_told_by_kind(text: str, back: str, kinds: list[str]) -> None:
    assert differences(text, back) == kinds


def test_34_what_cannot_come_back_is_a_warning_and_form_a_note() -> None:
    knows = character_tokenizer("你好天地?,。 \n", nfkc=True)
    rows = [("你好？", "天地。"), ("你好", "天地龘。"), ("好", "天")]
    form, lost = check_round_trip(seen(rows, tokenizer=knows))
    assert (form.level, form.where) == ("note", "data.jsonl:1")
    assert form.message.startswith("full-width forms in 1 of 3")
    assert (lost.level, lost.where) == ("warning", "data.jsonl:2")
    assert lost.message.startswith("Han characters in 1 of 3")
