"""Tokenizers that AutoTokenizer does not load, has no Rust for, or reads with one model of two."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, ByT5Tokenizer

from loraloom.base.loading import load_base
from loraloom.base.tokenizer_loading import load_tokenizer
from loraloom.checks.data.light_tokenizer import TextTokenizer
from loraloom.checks.data.round_trip import check_round_trip
from loraloom.checks.data.tokenization import check_lengths, check_unknown_tokens
from loraloom.commands.merge import merge
from loraloom.errors import ModelError
from tests.checks.data_rows import seen
from tests.commands.trained import train_small
from tests.sentencepiece_folders import make_spiece
from tests.tiny import make_folder

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def with_spiece(folder: Path, kind: str, config: dict[str, Any] | None) -> Path:
    make_folder(folder, kind)
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    return make_spiece(folder, config)


@pytest.mark.usefixtures("proof_here")
@pytest.mark.parametrize(
    ("kind", "config"),
    [("umt5", None), ("mt5", {"tokenizer_class": "MT5Tokenizer", "extra_ids": 0})],
    ids=["umt5 without a config", "MT5Tokenizer"],
)
def test_a_spiece_model_that_auto_tokenizer_does_not_load_is_read_merged_and_said(
    kind: str, config: dict[str, Any] | None, tmp_path: Path
) -> None:
    folder = with_spiece(tmp_path / "base", kind, config)
    with pytest.raises(ValueError, match="backend tokenizer"):
        AutoTokenizer.from_pretrained(folder)  # the obvious way
    base = load_base(str(folder), device="cpu")
    assert any("so T5Tokenizer reads spiece.model" in note for note in base.notes)
    ids = base.tokenizer("fox 我")["input_ids"]
    assert base.tokenizer.convert_ids_to_tokens(ids) == ["▁", "f", "o", "x", "▁", "我", "</s>"]

    run = train_small(tmp_path / "here", folder)
    result = merge(run, tmp_path / "merged")
    assert result["proof"]["reload"]["num_same_encodings"] == 6
    assert any("AutoTokenizer cannot load the base's tokenizer" in note for note in result["notes"])
    assert (tmp_path / "merged" / "spiece.model").read_bytes() == (folder / "spiece.model").read_bytes()
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("fox 我")["input_ids"] == ids


def test_another_familys_spiece_model_is_never_read_as_t5s(tmp_path: Path) -> None:
    """Pegasus' ids begin 103 later: T5Tokenizer would read every text as other tokens, silently."""
    folder = with_spiece(tmp_path / "it", "pegasus", {"tokenizer_class": "MT5Tokenizer"})
    with pytest.raises(ModelError, match="its tokenizer cannot be loaded"):
        load_tokenizer(str(folder), "it")


@pytest.fixture(scope="module")
def byt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ByT5: mT5's layers with byte ids from 3 on, and no tokenizer.json."""
    folder = make_folder(tmp_path_factory.mktemp("byt5") / "base", "flan", vocab_size=384)
    for name in TOKENIZER_FILES:
        (folder / name).unlink(missing_ok=True)
    ByT5Tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("proof_here")
def test_byt5_trains_on_bytes_and_merges(byt5: Path, tmp_path: Path) -> None:
    base = load_base(str(byt5), device="cpu")
    assert base.tokenizer("a我")["input_ids"] == [100, *(3 + byte for byte in "我".encode()), 1]
    texts = ["a我\n\n b", "é"]
    assert base.answer_text.texts([base.tokenizer(text)["input_ids"] for text in texts]) == texts
    run = train_small(tmp_path / "here", byt5)
    proof = merge(run, tmp_path / "merged")["proof"]
    assert proof["reload"]["num_same_encodings"] == proof["reload"]["num_same_answers"] == 6


def test_the_checks_of_bytes_say_what_holds(byt5: Path) -> None:
    tokenizer = TextTokenizer.of_transformers(load_tokenizer(str(byt5), "it")[0])
    view = seen([("我感\n  到", "ok"), ("a", "é 👍")], tokenizer=tokenizer)
    source, response = check_lengths(view)
    assert "the longest 13" in source.message  # 3 characters of 3 bytes, a line break, two spaces, EOS
    for finding in (source, response):
        assert "each token is one byte, and a Chinese character takes three" in finding.message
    assert {finding.level for finding in check_unknown_tokens(view)} == {"ok"}
    assert [finding.level for finding in check_round_trip(view)] == ["ok"]  # line breaks stay


def test_what_a_tokenizer_does_not_know_is_said_of_each_side(tiny: Callable[[str], Path]) -> None:
    """The quotation mark is in neither of Marian's vocabularies, and its sources become one token for two."""
    tokenizer = TextTokenizer.of_transformers(load_tokenizer(str(tiny("marian")), "it")[0])
    view = seen([("我感 fox 《", "我感到。")], tokenizer=tokenizer)
    source, response = check_unknown_tokens(view)
    assert source.level in ("warning", "error")
    assert response.level == "ok"
    assert view.encoded("train", "response").ids[0] == tokenizer.target_ids(["我感到。"])[0]


def test_line_breaks_and_leading_spaces_are_lost_or_kept_as_each_has_it(tiny: Callable[[str], Path]) -> None:
    kept: dict[str, list[str]] = {}
    for kind in ("bart", "marian", "pegasus"):
        tokenizer = TextTokenizer.of_transformers(load_tokenizer(str(tiny(kind)), "it")[0])
        found = check_round_trip(seen([("ab\ncd", "ab")], tokenizer=tokenizer))
        kept[kind] = [finding.message for finding in found if finding.level != "ok"]
    assert kept["bart"] == []
    for kind in ("marian", "pegasus"):
        assert any(message.startswith("line breaks in 1 of 1") for message in kept[kind]), kept


def test_a_leading_space_is_said_where_it_is_another_first_token(
    tiny: Callable[[str], Path], byt5: Path
) -> None:
    rows = [(" ab", "cd"), ("ab", "cd")]
    for folder, keeps in ((tiny("bart"), True), (byt5, True), (tiny("marian"), False)):
        tokenizer = TextTokenizer.of_transformers(load_tokenizer(str(folder), "it")[0])
        found = [each for each in check_round_trip(seen(rows, tokenizer=tokenizer)) if each.level != "ok"]
        kept = [each for each in found if "begin with white space" in each.message]
        assert len(kept) == keeps
        if keeps:
            assert kept[0].where == "data.jsonl:1"
            assert kept[0].message.startswith("1 of 2 (50 %) training sources begin with white space")
            one, other = tokenizer.ids(["ab", " ab"])
            assert one != other


@pytest.mark.parametrize("kind", ["mt5", "bart", "t5gemma", "m2m100", "marian", "pegasus"])
@pytest.mark.parametrize("kept", ["config.json", "*config.json"])
def test_a_folder_without_a_vocabulary_says_what_to_copy(
    tiny: Callable[[str], Path], tmp_path: Path, kind: str, kept: str
) -> None:
    """transformers 5.23 makes a tokenizer of special tokens alone for the first three."""
    for file in tiny(kind).glob(kept):
        shutil.copy(file, tmp_path)
    with pytest.raises(ModelError) as refused:
        load_tokenizer(str(tmp_path), "base")
    said = str(refused.value)
    assert said.startswith("base: its folder has no tokenizer. Allowed: tokenizer.json, vocab.*, ")
    assert said.endswith("Copy the files of this model's tokenizer into the folder.")


def test_a_tokenizer_that_cannot_be_loaded_says_the_first_error(tmp_path: Path) -> None:
    folder = with_spiece(tmp_path / "it", "umt5", None)
    shutil.copyfile(folder / "config.json", folder / "spiece.model")
    assert json.loads((folder / "spiece.model").read_text(encoding="utf-8"))["model_type"] == "umt5"
    with pytest.raises(ModelError, match="its tokenizer cannot be loaded"):
        load_tokenizer(str(folder), "it")
