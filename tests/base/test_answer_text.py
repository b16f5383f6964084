"""Tokens of answers as text: what a user added stays, what ends a text goes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import ByT5Tokenizer, T5Tokenizer

from loraloom.base.answer_text import AnswerText, sentinel_ids, sentinels_in
from loraloom.base.tokenizer_loading import forget_state
from loraloom.evaluate.expressible_references import expressible
from tests.tiny import make_tokenizer

ADDED = ["<sep>", "[NAME]"]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer as T5's own: pieces of sentencepiece, which fold white space, and sentinels."""
    model, folder = io.BytesIO(), tmp_path_factory.mktemp("t5")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox jumps over the lazy dog", "why so"] * 50),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=3,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
    )
    (Path(folder) / "spiece.model").write_bytes(model.getvalue())
    tokenizer = T5Tokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ADDED})
    return tokenizer


@pytest.fixture(params=["t5", "characters", "bytes"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "t5":
        return request.getfixturevalue("t5")
    made = make_tokenizer() if request.param == "characters" else ByT5Tokenizer()
    made.add_special_tokens({"additional_special_tokens": ADDED})
    return made


def answer_text(tokenizer: Any) -> AnswerText:
    return AnswerText(tokenizer, {tokenizer.pad_token_id, tokenizer.eos_token_id})


@pytest.mark.parametrize("text", ["the fox<sep> the dog", "[NAME] jumps", "why<sep>"])
def test_tokens_that_a_user_added_stay_in_an_answer(tokenizer: Any, text: str) -> None:
    own, pad = answer_text(tokenizer), tokenizer.pad_token_id
    ids = tokenizer(text)["input_ids"]
    (said,) = own.texts([[pad, *ids, pad, pad]])
    assert said == expressible([text], own).references[0]
    assert said.replace(" ", "") == text.replace(" ", "")


def test_a_perfect_answer_equals_its_reference_however_white_space_is_folded(t5: Any) -> None:
    own = answer_text(t5)
    references = ["fox <sep> dog", "the  fox\njumps over", "why", "<extra_id_0> fox"]
    answers = own.texts(t5(text_target=references)["input_ids"], sentinels_in(references))
    assert expressible(references, own).references == answers
    assert answers[1] == "the fox jumps over"


def test_what_the_model_cannot_say_is_not_taken_for_said(t5: Any) -> None:
    own = answer_text(t5)
    assert expressible(["fox 龘"], own).references == ["fox 龘"]
    assert expressible(["the </s> fox"], own).references == ["the </s> fox"]
    assert expressible([], own).references == []


def test_sentinels_go_unless_references_hold_them(t5: Any) -> None:
    own, ids = answer_text(t5), t5("<extra_id_0> fox<extra_id_1>")["input_ids"]
    assert own.texts([ids])[0].split() == ["fox"]
    assert own.texts([ids], {"<extra_id_0>"})[0].split() == ["<extra_id_0>", "fox"]
    assert sentinels_in(["a <extra_id_12> b", "<extra_id_x>", "c"]) == {"<extra_id_12>"}


def test_sentinels_of_mt5_are_pieces_with_a_space() -> None:
    vocabulary = {"▁<extra_id_1>": 7, "<extra_id_0>": 8, "<extra_id_a>": 9, "<sep>": 10}
    assert sentinel_ids(vocabulary) == {7: "<extra_id_1>", 8: "<extra_id_0>"}


def test_the_special_tokens_that_answers_hold_are_named(t5: Any) -> None:
    ids = t5("fox<sep> <extra_id_3> 龘")["input_ids"]
    assert set(answer_text(t5).special_in(ids)) == {"<extra_id_3>", "<sep>"}


def test_what_a_tokenizer_remembers_of_earlier_calls_is_undone_and_told() -> None:
    tokenizer = make_tokenizer()
    assert forget_state(tokenizer) == ()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    tokenizer(["a", "abc" * 9], padding="max_length", truncation=True, max_length=5)
    notes = forget_state(tokenizer)
    assert notes[0] == (
        "tokenizer.json stores settings for truncation and padding from an earlier call, "
        "which are not applied"
    )
    assert [note.split(" is ")[0] for note in notes[1:]] == [
        "the tokenizer's padding_side",
        "the tokenizer's truncation_side",
    ]
    assert len(tokenizer.backend_tokenizer.encode("abc" * 9).ids) == 28
    assert tokenizer.padding_side == tokenizer.truncation_side == "right"
    assert forget_state(ByT5Tokenizer()) == ()
