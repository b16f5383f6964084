"""The base's own dropout: where transformers drops, and nowhere unless a training pass draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM

from loraloom.bank import dropout as dropout_module
from loraloom.bank.bank import AdapterBank
from loraloom.bank.dropout import BaseDropout, base_dropout
from loraloom.bank.objective import hidden_states
from loraloom.base.loading import Base
from loraloom.base.row_attention import NAME
from loraloom.data.ownership import Draws, training_rows
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.recipe import GenerationSettings, LoraSettings
from tests.families import T5_KINDS
from tests.parity.rig import attach_speaking, batch_of, random_rows

ROWS = random_rows(6, seed=3)


def bank_of_nothing(base: Base) -> AdapterBank:
    """With an adapter `a` as it begins, which adds nothing and drops nothing of its own."""
    bank = AdapterBank(base)
    bank.attach("a", LoraSettings(r=1, lora_dropout=0.0, target_modules=["q"]), seed=1)
    return bank


@pytest.mark.parametrize("kind", T5_KINDS)
def test_it_drops_where_transformers_drops(
    base: Base, kind: str, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With halving in the place of every random mask, ours gives what the stock model gives."""
    stock = AutoModelForSeq2SeqLM.from_pretrained(tiny(kind), attn_implementation="eager")
    stock.train()
    with monkeypatch.context() as patch:
        patch.setattr(
            "torch.nn.functional.dropout",
            lambda x, p=0.5, training=True, inplace=False: x * 0.5 if training and p > 0 else x,
        )
        expected = [
            stock(
                input_ids=torch.from_numpy(row.input_ids).long()[None],
                labels=torch.from_numpy(row.labels).long()[None],
                output_hidden_states=True,
            ).decoder_hidden_states[-1]
            for row in ROWS
        ]
    monkeypatch.setattr(
        Draws, "token_mask", lambda self, slot, module, side, p, shape, like: like.new_full(shape, 0.5)
    )
    monkeypatch.setattr(
        dropout_module, "attention_mask", lambda draws, slot, name, sides, p, like: torch.full_like(like, 0.5)
    )
    bank = bank_of_nothing(base)
    with torch.no_grad(), base_dropout(base, 0.1):
        for row, wanted in zip(ROWS, expected, strict=True):
            batch = batch_of(base, {"a": [row]})
            with bank.rows(training_rows(batch, seeds={"a": 1}, steps={"a": 0}, micro_batch=0)):
                states = hidden_states(base, batch)
            torch.testing.assert_close(states, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", T5_KINDS)
def test_without_draws_it_changes_nothing(base: Base) -> None:
    """Evaluation, answers among rows of other lengths, and beams, while a training drops."""
    bank = AdapterBank(base)
    attach_speaking(bank, "a", seed=1, r=4, strength=0.5)
    slots, sources = ["a", None], [row.input_ids.tolist() for row in ROWS]
    greedy = GenerationSettings(max_new_tokens=5)
    beams = GenerationSettings(max_new_tokens=5, num_beams=2)

    def results() -> Any:
        losses = eval_losses(bank, slots, ROWS, batch_size=4)
        return losses, answer(bank, slots, sources, greedy), answer(bank, slots, sources, beams)

    losses, *answers = results()
    modules = dict(base.model.named_modules())
    with base_dropout(base, 0.3):
        assert any(isinstance(module, BaseDropout) for module in base.model.modules())
        losses_inside, *answers_inside = results()
    assert losses_inside == pytest.approx(losses, rel=1e-5)
    assert answers_inside == answers
    assert dict(base.model.named_modules()) == modules
    assert base.model.config._attn_implementation == NAME
    bank.drop("a")


def test_every_place_and_every_use_draws_its_own_mask(mt5: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack drops its embeddings and its output with one module; the two must not be one mask."""
    drawn: list[tuple[str, Tensor]] = []
    token_mask = Draws.token_mask

    def recording(self: Draws, slot: str, module: str, *args: Any, **kwargs: Any) -> Tensor:
        mask = token_mask(self, slot, module, *args, **kwargs)
        drawn.append((module, mask))
        return mask

    monkeypatch.setattr(Draws, "token_mask", recording)
    bank = bank_of_nothing(mt5)
    rows = list(random_rows(6, seed=3))
    batch = batch_of(mt5, {"a": rows})
    with torch.no_grad(), base_dropout(mt5, 0.3):
        for _ in range(2):
            with bank.rows(training_rows(batch, seeds={"a": 1}, steps={"a": 0}, micro_batch=0)):
                hidden_states(mt5, batch)
    half = len(drawn) // 2
    first, second = drawn[:half], drawn[half:]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))  # the pass repeats
    for number, (name, mask) in enumerate(first):
        for other, (_, another) in enumerate(first):
            assert number == other or mask.shape != another.shape or not torch.equal(mask, another), name


def test_masks_keep_the_right_share_and_the_mean(mt5: Base) -> None:
    """1 - p of the features are kept and scaled by 1 / (1 - p); 6 standard deviations are allowed."""
    batch = batch_of(mt5, {"a": list(ROWS)})
    rows = training_rows(batch, seeds={"a": 1}, steps={"a": 0}, micro_batch=0)
    assert rows.draws is not None
    p, features = 0.2, 2000
    shape = torch.Size((*batch.input_ids.shape, features))
    mask = rows.draws.token_mask("a", "m", "source", p, shape, like=torch.zeros(1))
    tokens = mask[batch.source_segments > 0]
    assert tokens.unique().tolist() == pytest.approx([0.0, 1 / (1 - p)])
    assert float((tokens > 0).float().mean()) == pytest.approx(
        1 - p, abs=6 * (p * (1 - p) / tokens.numel()) ** 0.5
    )
    assert not mask[batch.source_segments == 0].any()


@pytest.mark.parametrize("what", ["seed", "step", "micro_batch", "module"])
def test_masks_are_functions_of_seed_step_micro_batch_and_module(mt5: Base, what: str) -> None:
    def mask(seed: int = 1, step: int = 0, micro_batch: int = 0, module: str = "m") -> Tensor:
        batch = batch_of(mt5, {"a": list(ROWS)})
        rows = training_rows(batch, seeds={"a": seed}, steps={"a": step}, micro_batch=micro_batch)
        assert rows.draws is not None
        shape = torch.Size((*batch.labels.shape, 16))
        return rows.draws.token_mask("a", module, "target", 0.5, shape, like=torch.zeros(1))

    other: dict[str, Any] = {what: "n" if what == "module" else 2}
    assert torch.equal(mask(), mask())
    assert not torch.equal(mask(), mask(**other))
