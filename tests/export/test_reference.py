"""What base + adapter answers for the proof of an export, each of it computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.data.ownership import Rows
from loraloom.errors import ModelError
from loraloom.evaluate.row_decoding import RowDecoding
from loraloom.export import export_reference
from loraloom.export.export_proof import measure
from loraloom.export.export_reference import (
    NUM_NEAREST,
    Reference,
    merge_scored,
    reference_answers,
    reference_log_probabilities,
)
from loraloom.export.fresh_process import teacher_forced
from loraloom.export.merged_folder import merge_proven
from loraloom.export.proof import NUM_ROWS as NUM_MERGED_ROWS
from loraloom.export.proof import Limits, proof_rows
from loraloom.export.runtime import ProofRows, RuntimeOutputs, answered_together, each_alone
from loraloom.recipe import DataSettings, Recipe
from loraloom.training.card_facts import Facts
from loraloom.training.signals import StopRequest
from tests.parity.rig import attach_speaking, random_rows

NUM_ROWS, LIMIT = 12, 8


@pytest.fixture
def bank(tiny: Callable[[str], Path]) -> AdapterBank:
    """A bank on a base of its own, because merging changes its weights."""
    bank = AdapterBank(load_base(str(tiny("mt5")), dtype="float32", device="cpu"))
    attach_speaking(bank, "a", seed=5, strength=0.4, r=3, target_modules=["q", "v", "wo"])
    return bank


@pytest.fixture
def rows(mt5: Base) -> ProofRows:
    sources = [row.input_ids.tolist() for row in random_rows(NUM_ROWS, seed=4, vocabulary=50)]
    starts = [mt5.start_token_id] * NUM_ROWS
    return ProofRows(
        sources=sources,
        targets=sources,
        texts=[],
        pad_token_id=mt5.pad_token_id,
        eos_token_id=mt5.eos_token_id,
        start_token_ids=starts,
        forced_token_ids=[None] * NUM_ROWS,
        max_new_tokens=LIMIT,
    )


def test_the_likeliest_tokens_of_decoding_are_those_of_a_pass_over_the_answer(
    bank: AdapterBank, rows: ProofRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of answers that end early and leave the batch, of which there are some with this EOS."""
    said = [answer[2] for answer in reference_answers(bank, "a", rows, with_nearest=False)[0]]
    eos = max(set(said), key=said.count)
    monkeypatch.setattr(Base, "eos_token_id", eos)
    rows = replace(rows, eos_token_id=eos)
    answers, nearest = reference_answers(bank, "a", rows, with_nearest=True)
    assert answers == reference_answers(bank, "a", rows, with_nearest=False)[0]
    assert min(map(len, answers)) < max(map(len, answers)) == LIMIT
    whole = replace(rows, targets=[[*answer, rows.eos_token_id] for answer in answers])
    for row, answer, found in zip(each_alone(whole), answers, nearest, strict=True):
        with torch.no_grad(), bank.rows(Rows(("a",), (1,))):
            wanted = teacher_forced(bank.base.model, row).topk(NUM_NEAREST, dim=1)
        for at in range(min(len(answer) + 1, LIMIT)):
            assert list(found[at]) == wanted.indices[at].tolist()
            assert list(found[at].values()) == pytest.approx(wanted.values[at].tolist(), abs=1e-4)


def test_as_many_rows_are_answered_at_once_as_their_keys_and_values_fit(
    bank: AdapterBank, rows: ProofRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the runtimes, whose answers these are compared with."""
    monkeypatch.setattr("loraloom.export.runtime.ANSWER_POSITIONS_AT_ONCE", 5 * (40 + LIMIT))
    rows = replace(rows, sources=[*rows.sources[:-1], [5] * 40])
    together = [len(part.sources) for part in answered_together(rows)]
    batches: list[int] = []
    answered = RowDecoding.answer

    def counted(decoding: RowDecoding, chosen: Sequence[int]) -> None:
        batches.append(len(chosen))
        answered(decoding, chosen)

    monkeypatch.setattr(RowDecoding, "answer", counted)
    reference_answers(bank, "a", rows, with_nearest=False)
    assert batches == together == [5, 5, 2]


def test_the_gap_of_another_answer_is_the_difference_of_two_logits(
    bank: AdapterBank, rows: ProofRows
) -> None:
    answers, nearest = reference_answers(bank, "a", rows, with_nearest=True)
    first, second = list(nearest[3][2])[:2]
    assert answers[3][2] == first
    others = [list(answer) for answer in answers]
    others[3][2] = second
    measured = measure(RuntimeOutputs(others, "a runtime"), Reference(answers, [], nearest), rows)
    assert measured.num_same_answers == NUM_ROWS - 1
    assert measured.largest_gap == pytest.approx(nearest[3][2][first] - nearest[3][2][second])


def test_merging_is_compared_with_the_answers_that_are_known(
    bank: AdapterBank, rows: ProofRows, tmp_path: Path
) -> None:
    answers, nearest = reference_answers(bank, "a", rows, with_nearest=True)
    answers[3][2] = list(nearest[3][2])[-1]
    with pytest.raises(ModelError, match=f"{NUM_ROWS - 1} of {NUM_ROWS} answers are the same"):
        merge_proven(bank, "a", rows, tmp_path / "outputs", StopRequest(), answers)


@pytest.mark.parametrize(("longest", "are_all"), [(None, True), (6, False)])
def test_log_probabilities_are_those_of_base_and_adapter_before_it_is_merged(
    longest: int | None, are_all: bool, bank: AdapterBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are computed from the logits that merging is checked with, unless the proof has other rows."""
    bank.drop("a")  # so strong that rounding alone moves its logits by more than a proof allows
    attach_speaking(bank, "a", seed=5, r=3, target_modules=["q", "v", "wo"])
    recipe = Recipe(model_name_or_path="mt5", data=DataSettings(train="starter"))
    (experiment,) = recipe.resolved_experiments
    facts = Facts(recipe, replace(experiment, name="a"), {}, [], (), {}, {})
    rows = proof_rows(bank.base, recipe, [], limits=Limits())
    if longest is not None:
        rows = replace(rows, targets=[[*target[:longest], rows.eos_token_id] for target in rows.targets])
    answers, _ = reference_answers(bank, "a", rows, with_nearest=False)
    expected = reference_log_probabilities(bank, "a", rows)
    more_passes = 0

    def counted(*given: Any) -> list[list[float]]:
        nonlocal more_passes
        more_passes += 1
        return reference_log_probabilities(*given)

    monkeypatch.setattr(export_reference, "reference_log_probabilities", counted)
    found, merging = merge_scored(bank, facts, [], rows, answers, tmp_path / "logits", StopRequest())
    assert more_passes == (0 if are_all else 1)
    assert len(found) == NUM_MERGED_ROWS
    for own, wanted in zip(found, expected, strict=True):
        assert own == pytest.approx(wanted, abs=1e-5)
    assert 0 < merging < 1e-4
