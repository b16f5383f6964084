"""mBART, mBART-50, M2M100 and NLLB: rows of several languages in one batch, as transformers has each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right as m2m_shift

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base
from loraloom.data.batches import SlotExamples, collate
from loraloom.data.encoding import EncodedSet
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import GenerationSettings
from tests.parity.multilingual import CODES, encoded_by_transformers, encoded_rows, text_rows
from tests.parity.rig import (
    assert_same_gradients,
    attach_speaking,
    batch_of,
    experiment,
    loaded_once,
    losses_and_gradients,
    stock_model,
    unwrap,
)
from tests.parity.stock_trainer import WITHOUT_DROPOUT
from tests.parity.test_stock_trainer import assert_same
from tests.tiny_multilingual import MULTILINGUAL_KINDS, make_multilingual

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture(params=MULTILINGUAL_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders with the special tokens of the real models."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = make_multilingual(tmp_path_factory.mktemp("multilingual") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture(scope="module")
def loaded(tiny: Callable[[str], Path]) -> Callable[[str], Base]:
    return loaded_once(tiny)


@pytest.fixture
def base(kind: str, loaded: Callable[[str], Base]) -> Iterator[Base]:
    yield loaded(kind)
    unwrap(loaded(kind))


def shifted_by_transformers(base: Base, labels: torch.Tensor) -> torch.Tensor:
    """M2M100 has no `prepare_decoder_input_ids_from_labels`."""
    if base.family.model_type == "mbart":
        return base.model.prepare_decoder_input_ids_from_labels(labels[None])[0]
    return m2m_shift(labels[None], base.pad_token_id, base.model.config.decoder_start_token_id)[0]


def test_rows_are_encoded_as_by_a_tokenizer_that_is_told_each_rows_languages(base: Base, kind: str) -> None:
    rows = text_rows(kind, 12)
    for row, ours in zip(rows, encoded_rows(base, rows), strict=True):
        theirs = encoded_by_transformers(base.tokenizer, row)
        assert (ours.input_ids.tolist(), ours.labels.tolist()) == theirs


def test_what_a_tokenizer_was_last_told_changes_nothing(base: Base, kind: str) -> None:
    rows = text_rows(kind, 4)
    base.tokenizer.src_lang = base.tokenizer.tgt_lang = CODES[kind][2]
    other = encoded_rows(base, rows)
    base.tokenizer.src_lang, base.tokenizer.tgt_lang = CODES[kind][0], None
    for before, after in zip(other, encoded_rows(base, rows), strict=True):
        assert before.labels.tolist() == after.labels.tolist()


@pytest.mark.parametrize("limit", [2, 3, 5])
def test_no_limit_cuts_a_code_or_the_end(base: Base, kind: str, limit: int) -> None:
    assert base.languages is not None
    rows = text_rows(kind, 8)
    for row, each in zip(rows, encoded_rows(base, rows, limit), strict=True):
        sides = (each.input_ids.tolist(), row.source_lang), (each.labels.tolist(), row.target_lang)
        for ids, code in sides:
            assert len(ids) <= limit
            assert base.eos_token_id in ids
            assert base.languages.codes[code] in ids


def test_the_decoder_begins_as_in_transformers(base: Base, kind: str) -> None:
    for row in encoded_rows(base, text_rows(kind, 8)):
        labels = torch.from_numpy(row.labels).long()
        theirs = shifted_by_transformers(base, labels)
        assert base.layout.shift_right(labels).tolist() == theirs.tolist()
        start = base.decoder_start_of(labels.tolist())
        assert [start.start_token_id, *filter(None, [start.forced_token_id])] == [
            *theirs[:1].tolist(),
            *(labels[:1].tolist() if base.languages and base.languages.begins_target else []),
        ]


def test_packed_padded_and_alone_are_one(base: Base, kind: str) -> None:
    """Also where a text contains padding, which a position of M2M100 does not count."""
    rows = encoded_rows(base, text_rows(kind, 9, seed=3))
    sources = [row.input_ids.tolist() for row in rows]
    sources[4].insert(2, base.pad_token_id)
    rows = EncodedSet(sources, [row.labels.tolist() for row in rows])
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4, lora_dropout=0.0)
    packed, padded = (batch_of(base, {"a": list(rows)}, packing=packing) for packing in (True, False))
    assert len(packed.labels) < len(padded.labels)
    found = [losses_and_gradients(bank, batch) for batch in (packed, padded)]
    assert found[0][0]["a"] == pytest.approx(found[1][0]["a"], rel=1e-6)
    assert_same_gradients(found[0][1]["a"], found[1][1]["a"])
    alone = [batch_of(base, {"a": [row]}) for row in rows]
    sums = [losses_and_gradients(bank, batch)[0]["a"] * sum(batch.num_labels) for batch in alone]
    assert sum(sums) / sum(packed.num_labels) == pytest.approx(found[0][0]["a"], rel=1e-6)


def test_the_loss_of_a_row_is_that_of_the_models_own_forward(base: Base, kind: str, tiny: Any) -> None:
    model = stock_model(tiny(kind)).eval()
    rows = encoded_rows(base, text_rows(kind, 6, seed=4))
    with torch.no_grad():
        for row in rows:
            theirs = model(
                input_ids=torch.from_numpy(row.input_ids).long()[None],
                labels=torch.from_numpy(row.labels).long()[None],
            ).loss
            own = EncodedSet([row.input_ids.tolist()], [row.labels.tolist()])
            ours = eval_losses(AdapterBank(base), [None], own, batch_size=1)[None]
            assert ours == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_answers_are_those_of_generate_told_the_language(
    base: Base, kind: str, tiny: Any, num_beams: int
) -> None:
    """Rows of three languages in one batch; the folder's own configuration forces another one."""
    rows = text_rows(kind, 7, seed=5)
    encoded = encoded_rows(base, rows)
    sources = [row.input_ids.tolist() for row in encoded]
    starts = [base.decoder_start(row.target_lang) for row in rows]
    penalty = {"length_penalty": 1.5} if num_beams > 1 else {}
    settings = GenerationSettings(max_new_tokens=9, num_beams=num_beams, **penalty)
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=3, r=4)
    ours = answer(bank, [None, "a"], sources, settings, starts=starts)
    assert ours["a"] != ours[None]
    model = stock_model(tiny(kind)).eval()
    for source, start, row in zip(sources, starts, ours[None], strict=True):
        tokens = model.generate(
            input_ids=torch.tensor([source]),
            attention_mask=torch.ones(1, len(source), dtype=torch.long),
            decoder_start_token_id=start.start_token_id,
            forced_bos_token_id=start.forced_token_id,
            max_new_tokens=9,
            num_beams=num_beams,
            do_sample=False,
            **penalty,
        )[0, 1:].tolist()
        wanted = tokens[: tokens.index(base.eos_token_id)] if base.eos_token_id in tokens else tokens
        assert row == wanted


def test_answers_have_no_code_in_their_text(base: Base, kind: str) -> None:
    assert base.languages is not None
    letters = base.tokenizer("ab", add_special_tokens=False)["input_ids"]
    for code in CODES[kind]:
        assert base.answer_text.texts([base.languages.target([*letters, 2], code)]) == ["ab"]


def test_an_adapter_equals_one_of_peft_and_the_stock_trainer(
    base: Base, kind: str, tiny: Any, tmp_path: Path
) -> None:
    each = experiment("main", **WITHOUT_DROPOUT)
    assert_same(base, tiny(kind), each, encoded_rows(base, text_rows(kind, 14, seed=5)), tmp_path)


def test_an_adapter_in_a_bank_equals_the_same_alone(base: Base, kind: str) -> None:
    rows = list(encoded_rows(base, text_rows(kind, 10, seed=6)))
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4, lora_dropout=0.0)
    alone = losses_and_gradients(bank, batch_of(base, {"a": rows[:6]}))
    attach_speaking(bank, "b", seed=2, r=5, lora_dropout=0.0, target_modules=["q", "wo"])
    both = losses_and_gradients(bank, batch_of(base, {"a": rows[:6], "b": rows[3:]}))
    assert both[0]["a"] == pytest.approx(alone[0]["a"], rel=1e-6)
    assert_same_gradients(both[1]["a"], alone[1]["a"])


def test_rows_are_packed_with_the_start_of_each(base: Base, kind: str) -> None:
    rows = list(encoded_rows(base, text_rows(kind, 8, seed=7)))
    batch = collate([SlotExamples(None, rows)], base.layout, min_width=(60, 60))
    for row, segment in zip(rows, batch.segments["target"][0], strict=True):
        begun = batch.decoder_input_ids[segment.row, segment.start]
        assert int(begun) == base.decoder_start_of(row.labels.tolist()).start_token_id
