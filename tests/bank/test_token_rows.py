"""Trained rows of the embeddings: they are looked up, change a tied head, and stay with their adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from pydantic import ValidationError
from torch import Tensor, nn

from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.merging import merge_adapter, round_weights
from loraloom.bank.objective import hidden_states, output_head, span_losses
from loraloom.bank.owned_logits import owned_logits
from loraloom.bank.peft_folder import read_adapter, write_adapter
from loraloom.bank.token_head import _losses
from loraloom.bank.token_rows import DELTA, TokenRows, table_name
from loraloom.base.loading import Base, load_base
from loraloom.data.ownership import Rows
from loraloom.errors import AdapterError
from loraloom.evaluate.generation import answer
from loraloom.evaluate.movement import movement
from loraloom.kernels.cross_entropy import token_losses
from loraloom.kernels.output_head import OutputHead
from loraloom.recipe import GenerationSettings, LoraSettings
from tests.parity.rig import attach_speaking, batch_of, gradients, random_rows, stock_model

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
# A tied head with scaled states, a tied head with biases of logits, and a head of its own.
OF_HEADS = pytest.mark.parametrize("kind", ["t5", "bart", "mt5"])
ROWS = list(random_rows(5, seed=9, vocabulary=60))
IDS = [1, *range(5, 40, 2)]
LORA: dict[str, Any] = {"r": 2, "target_modules": "all-linear"}
Owners = dict[str | None, Any]


def attach(bank: AdapterBank) -> None:
    """Attach an adapter with trained rows and one without."""
    attach_speaking(bank, "rows", seed=1, trainable_token_indices=IDS, **LORA)
    attach_speaking(bank, "plain", seed=2, **LORA)


def drop(bank: AdapterBank) -> None:
    for slot in bank.slots:
        bank.drop(slot)


def losses(bank: AdapterBank, slots: Owners, smoothing: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses of each slot and the gradients of the adapter with trained rows."""
    batch = batch_of(bank.base, slots)
    for parameter in bank.parameters("rows"):
        parameter.grad = None
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        found = span_losses(bank.base, batch, [smoothing] * len(slots))
        found[0].backward()
    return found.detach(), gradients(bank, "rows")


@OF_HEADS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_those_of_a_model_with_these_rows(base: Base, smoothing: float) -> None:
    bank = AdapterBank(base)
    attach(bank)
    mixed, found = losses(bank, {"rows": ROWS, "plain": ROWS, None: ROWS}, smoothing)
    alone, own = losses(bank, {"rows": ROWS}, smoothing)
    torch.testing.assert_close(mixed[:1], alone)
    assert all(torch.allclose(found[name], own[name], rtol=1e-4, atol=1e-5) for name in own)
    batch = batch_of(base, {"rows": ROWS})
    (rows,) = bank.beside.tables.parameters("rows").values()
    rows.grad = None
    with bank.rows(Rows(batch.slots, batch.num_rows)):
        head, states = output_head(base), hidden_states(base, batch)
        weight = bank.beside.tables.weight.index_copy(0, torch.tensor(IDS), rows)
        logits = states * head.scale @ (weight if base.head_is_tied else head.weight).T
        logits = logits if head.bias is None else logits + head.bias
        wanted = F.cross_entropy(
            logits.flatten(0, 1),
            batch.labels.flatten(),
            reduction="sum",
            ignore_index=-100,
            label_smoothing=smoothing,
        )
        wanted.backward()
    torch.testing.assert_close(alone[0], wanted.detach(), rtol=1e-5, atol=1e-4)
    name = f"{table_name(base)}.{DELTA}"
    assert rows.grad is not None
    torch.testing.assert_close(own[name], rows.grad, rtol=1e-4, atol=1e-5 * float(rows.grad.abs().max()))
    # Neighbours are what they are without it.
    bank.drop("rows")
    batch = batch_of(base, {"plain": ROWS, None: ROWS})
    with torch.no_grad(), bank.rows(Rows(batch.slots, batch.num_rows)):
        torch.testing.assert_close(span_losses(base, batch, [smoothing] * 2), mixed[1:])
    drop(bank)


@pytest.mark.parametrize("scale", [1.0, 512**-0.5])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_over_a_bfloat16_head_are_those_in_float32(scale: float, smoothing: float) -> None:
    """Of trained labels, whose logits are not rounded; of others as exactly as with a bias of nothing."""
    generator, n, k = torch.Generator().manual_seed(0), 128, 40
    weight = torch.randn(8_000, 512, generator=generator).bfloat16()
    ids = torch.arange(7_960, 8_000)
    own = TokenRows(ids, nn.Parameter(torch.randn(k, 512, generator=generator)))
    labels = torch.cat([torch.arange(0, 7_936, 124), ids[torch.arange(64) % k]])
    rows = weight.float().index_copy(0, ids, own.rows.detach())
    towards = F.normalize(rows[labels]) * 0.55 + torch.randn(n, 512, generator=generator) * 0.08
    states = (towards / scale).bfloat16()
    epsilon = torch.full((n,), smoothing) if smoothing else None
    head = OutputHead(weight, scale)

    def plain(table: Tensor) -> Tensor:
        logits = (states * scale).float() @ table.T
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

    found = _losses(token_losses, states, labels, head, epsilon, own)
    (gradient,) = torch.autograd.grad(found.sum(), own.rows)
    wanted = plain(weight.float().index_copy(0, ids, own.rows))
    (wanted_gradient,) = torch.autograd.grad(wanted.sum(), own.rows)
    # A logit of 12 has steps of 0.06 in bfloat16.
    torch.testing.assert_close(found[64:], wanted[64:], rtol=0, atol=2e-3)
    assert float((gradient - wanted_gradient).norm() / wanted_gradient.norm()) < 1e-3
    frozen = token_losses(states, labels, replace(head, bias=torch.zeros(len(weight))), epsilon)
    error, usual = (found - wanted).detach()[:64], (frozen - plain(weight.float()))[:64]
    assert float(error.abs().max()) < 1.02 * float(usual.abs().max())


@OF_HEADS
def test_rounding_is_measured_over_the_trained_rows_too(kind: str, tiny: Callable[[str], Path]) -> None:
    base = load_base(str(tiny(kind)), dtype="float32", device="cpu")
    bank = AdapterBank(base)
    # Only rows, beside a linear that the adapter leaves unchanged.
    attach_speaking(bank, "rows", seed=1, trainable_token_indices=IDS, r=2, target_modules=["q"])
    for parameter in bank.parameters("rows"):
        if parameter.shape[-1] == 2:  # B
            parameter.data.zero_()
    linears = [target.linear for target in bank.available if target.name in bank.parts("rows")]
    table = base.model.get_input_embeddings().weight
    before = table.detach().clone()
    merged = merge_adapter(bank, "rows")
    weights = [table.detach()[IDS], *(linear.dense().clone() for linear in linears)]
    rounding = sum(float((each.bfloat16().float() - each).norm()) ** 2 for each in weights) ** 0.5
    change = float((table - before).norm())
    assert round_weights(base.model, merged, torch.bfloat16) == pytest.approx(rounding / change)


@OF_HEADS
@pytest.mark.parametrize("num_beams", [1, 2])
def test_answers_and_logits_are_those_of_the_merged_model(base: Base, num_beams: int) -> None:
    settings = GenerationSettings(max_new_tokens=6, num_beams=num_beams, batch_size=3)
    sources = [row.input_ids.tolist() for row in ROWS]
    bank = AdapterBank(base)
    before = answer(bank, [None], sources, settings, seed=1)[None]
    attach(bank)
    answers = answer(bank, ["plain", "rows", None], sources, settings, seed=1)
    assert answers[None] == before
    assert answers["rows"] != before
    assert movement(bank, "rows").kinds["embeddings shared"] > 0.05
    ids, start = torch.tensor([[*IDS[:6], 1]]), torch.tensor([[base.start_token_id, *IDS[:4]]])
    with torch.no_grad(), bank.rows(Rows(("rows",), (1,))):
        logits = base.model(input_ids=ids, decoder_input_ids=start).logits
    bank.drop("plain")
    originals = [(parameter, parameter.clone()) for parameter in base.model.parameters()]
    try:
        merge_adapter(bank, "rows")
        with torch.no_grad():
            merged = base.model(input_ids=ids, decoder_input_ids=start).logits
        torch.testing.assert_close(merged, logits, rtol=1e-4, atol=1e-5 * float(logits.abs().max()))
        assert answer(bank, [None], sources, settings, seed=1)[None] == answers["rows"]
    finally:
        with torch.no_grad():
            for parameter, original in originals:
                parameter.copy_(original)


@torch.no_grad()
@OF_HEADS
def test_rows_of_any_owners_get_logits_of_their_own(base: Base) -> None:
    """As a server decodes: the states of a batch whose neighbours belong to others, and then the logits."""
    bank = AdapterBank(base)
    attach(bank)
    slots = ("rows", None, "plain", "rows")
    batch = batch_of(base, {None: [ROWS[2]] * 4}, packing=False)
    with bank.rows(IndexedRows(slots)):
        states = hidden_states(base, batch)
        logits = owned_logits(base, states[:, -1], slots)
        head = output_head(base)
        whole = base.head(states * head.scale)[:, -1]
    torch.testing.assert_close(logits, whole if head.bias is None else whole + head.bias)
    torch.testing.assert_close(logits[0], logits[3])
    assert float((logits[0] - logits[1]).abs().max()) > 1e-3
    for number, slot in enumerate(slots):
        with bank.rows(Rows((slot,), (4,))):
            alone = owned_logits(base, hidden_states(base, batch)[:, -1], [slot] * 4)
        torch.testing.assert_close(alone[0], logits[number], rtol=1e-4, atol=1e-5)
    drop(bank)


@torch.no_grad()
@OF_HEADS
def test_peft_reads_what_we_write(base: Base, kind: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    bank = AdapterBank(base)
    attach(bank)
    ids, start = torch.tensor([[*IDS[:6], 1]]), torch.tensor([[base.start_token_id, *IDS[:4]]])
    with bank.rows(Rows(("rows",), (1,))):
        logits = base.model(input_ids=ids, decoder_input_ids=start).logits
    tensors = {name: tensor.clone() for name, tensor in bank.tensors("rows").items()}
    options: dict[str, Any] = {"settings": bank.settings("rows"), "tensors": tensors}
    write_adapter(tmp_path / "a", base=base, available=bank.available, origin={}, **options)
    drop(bank)
    again = read_adapter(tmp_path / "a", base)
    assert again.settings.trainable_token_indices == IDS
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in tensors.items())
    stock = PeftModel.from_pretrained(stock_model(tiny(kind)), tmp_path / "a").eval()
    theirs = stock(input_ids=ids, decoder_input_ids=start).logits
    torch.testing.assert_close(theirs, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))


@torch.no_grad()
@OF_HEADS
def test_we_read_what_peft_writes(base: Base, kind: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Whatever the order of its token ids."""
    ids = IDS[::-1]
    named: Any = ids if base.head_is_tied else {"embed_tokens": ids}
    config = LoraConfig(
        r=2, target_modules=["q", "q_proj"], trainable_token_indices=named, task_type="SEQ_2_SEQ_LM"
    )
    stock = get_peft_model(stock_model(tiny(kind)), config).eval()
    for name, parameter in stock.named_parameters():
        if DELTA in name:
            parameter.add_(torch.arange(parameter.numel()).view_as(parameter).sin(), alpha=0.1)
    stock.save_pretrained(tmp_path / "a")
    source, start = torch.tensor([[*IDS[:6], 1]]), torch.tensor([[base.start_token_id, *IDS[:4]]])
    theirs = stock(input_ids=source, decoder_input_ids=start).logits
    adapter = read_adapter(tmp_path / "a", base)
    bank = AdapterBank(base)
    bank.attach("a", adapter.settings, seed=0, tensors=adapter.tensors)
    with bank.rows(Rows(("a",), (1,))):
        logits = base.model(input_ids=source, decoder_input_ids=start).logits
    drop(bank)
    torch.testing.assert_close(logits, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_what_cannot_be_trained_is_refused(loaded: Callable[[str], Base]) -> None:
    bank = AdapterBank(loaded("t5gemma"))
    with pytest.raises(AdapterError, match="look up tokens in different tables"):
        bank.attach("a", LoraSettings(trainable_token_indices=[3]), seed=1)
    assert not bank.slots
    bank = AdapterBank(loaded("t5"))
    with pytest.raises(AdapterError, match=r"no such token .*99999.*resize_token_embeddings"):
        bank.attach("a", LoraSettings(trainable_token_indices=[99_999, 3]), seed=1)
    assert LoraSettings(trainable_token_indices=[7, 3]).trainable_token_indices == [3, 7]
    with pytest.raises(ValidationError, match="has 3 twice"):
        LoraSettings(trainable_token_indices=[3, 7, 3])
