"""Base and adapters answering in one pass say what transformers' `generate` says, model by model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import write_adapter
from loraloom.base.loading import Base, load_base
from loraloom.data.ownership import seed_for
from loraloom.evaluate import row_decoding
from loraloom.evaluate.generation import answer
from loraloom.evaluate.logits_processors import logits_processors
from loraloom.recipe import GenerationSettings
from tests.families import KINDS, TWO_KINDS
from tests.parity.rig import EOS, FIRST_TOKEN, attach_speaking, stock_model
from tests.tiny import make_folder

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
Speaking = tuple[AdapterBank, dict[str | None, Any]]
# In no order, and of few lengths, so that `generate` takes those of one length at once, without padding.
LENGTHS = (1, 12, 2, 5, 2, 5, 12, 1, 5, 2, 12)
GENERATOR = torch.Generator().manual_seed(4)
SOURCES = [[*torch.randint(FIRST_TOKEN, 50, (n - 1,), generator=GENERATOR).tolist(), EOS] for n in LENGTHS]
SLOTS = ["a", None, "b"]
GREEDY = {
    "plain": GenerationSettings(max_new_tokens=16, batch_size=7),
    "both": GenerationSettings(max_new_tokens=16, repetition_penalty=1.2, no_repeat_ngram_size=3),
}
BEAMS = {
    "plain": GenerationSettings(max_new_tokens=10, num_beams=3, batch_size=4),
    "long": GenerationSettings(max_new_tokens=10, num_beams=2, length_penalty=2.0, no_repeat_ngram_size=2),
}


of_two_kinds = pytest.mark.parametrize("speaking", TWO_KINDS, indirect=True)


def asked_of(every: str, two: str) -> pytest.MarkDecorator:
    """One setting for every kind, another for two of them: `generate` takes its time."""
    cases = [*product(KINDS, [every]), *product(TWO_KINDS, [two])]
    return pytest.mark.parametrize(("speaking", "which"), cases, indirect=["speaking"])


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Speaking]:
    """Those of each kind, made once, in whatever order the tests ask for them."""
    return functools.cache(lambda kind: make_speaking(kind, tmp_path_factory.mktemp("generation")))


@pytest.fixture
def speaking(request: pytest.FixtureRequest, speakers: Callable[[str], Speaking]) -> Speaking:
    return speakers(request.param)


def make_speaking(kind: str, folder: Path) -> Speaking:
    """A bank with two adapters, and each model as transformers and PEFT load it.

    A model of random weights hardly ever says EOS. So EOS is declared to be the token that makes
    answers end at the most lengths.
    """
    make_folder(folder / "base", kind, seed=2)
    base = load_base(str(folder / "base"), dtype="float32", device="cpu")
    bank = AdapterBank(base)
    models: dict[str | None, Any] = {None: stock_model(folder / "base")}
    for number, (slot, targets) in enumerate((("a", ["all-linear"]), ("b", ["q", "v", "wo"]))):
        settings = attach_speaking(bank, slot, seed=number + 5, strength=0.4, r=3, target_modules=targets)
        write_adapter(
            folder / slot,
            base=base,
            settings=settings,
            tensors=bank.tensors(slot),
            available=bank.available,
            origin={},
        )
        models[slot] = PeftModel.from_pretrained(stock_model(folder / "base"), folder / slot)
    for model in models.values():
        model.eval()
    said = [row for rows in answer(bank, SLOTS, SOURCES, GREEDY["both"]).values() for row in rows]
    lengths = {token: {row.index(token) for row in said if token in row} for row in said for token in row}
    known = [token for token in sorted(lengths) if token < len(base.tokenizer)]  # some are of no token
    eos = max(known, key=lambda token: len(lengths[token]))
    base.tokenizer.eos_token = base.tokenizer.convert_ids_to_tokens(eos)
    assert base.eos_token_id == eos
    return bank, models


def stock_answers(model: Any, eos: int, settings: GenerationSettings, **options: Any) -> list[list[int]]:
    """Each source unpadded through `generate`, those of one length together; cut at EOS."""
    answers: dict[int, list[int]] = {}
    for length in sorted(set(LENGTHS)):
        places = [place for place, source in enumerate(SOURCES) if len(source) == length]
        said = model.generate(
            input_ids=torch.tensor([SOURCES[place] for place in places]),
            attention_mask=torch.ones(len(places), length, dtype=torch.long),
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
            do_sample=False,
            repetition_penalty=settings.repetition_penalty,
            no_repeat_ngram_size=settings.no_repeat_ngram_size,
            eos_token_id=eos,
            **options,
        )[:, 1:].tolist()
        for place, tokens in zip(places, said, strict=True):
            answers[place] = tokens[: tokens.index(eos)] if eos in tokens else tokens
    return [answers[place] for place in range(len(SOURCES))]


@asked_of("both", "plain")
def test_greedy(speaking: Speaking, which: str) -> None:
    bank, models = speaking
    settings = GREEDY[which]
    answers = answer(bank, SLOTS, SOURCES, settings)
    for slot in SLOTS:
        assert answers[slot] == stock_answers(models[slot], bank.base.eos_token_id, settings), f"slot {slot}"


@of_two_kinds
def test_the_answers_differ_and_end_early(speaking: Speaking) -> None:
    """The premise of the tests here: rows leave at different steps, and no slot says what another does."""
    answers = answer(speaking[0], SLOTS, SOURCES, GREEDY["both"])
    lengths = {len(row) for rows in answers.values() for row in rows}
    assert len(lengths) >= 5
    assert min(lengths) < GREEDY["both"].max_new_tokens
    for slot in SLOTS:
        assert any(len(row) == GREEDY["both"].max_new_tokens for row in answers[slot])
        assert len({tuple(row) for row in answers[slot]}) >= 5
    assert answers["a"] != answers[None] != answers["b"] != answers["a"]


@of_two_kinds
@pytest.mark.parametrize("share", [0.0, 2.0], ids=["at once", "never"])
def test_when_rows_leave_changes_no_answer(
    speaking: Speaking, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, _ = speaking
    expected = answer(bank, SLOTS, SOURCES, GREEDY["both"])
    monkeypatch.setattr(row_decoding, "LEAVING_SHARE", share)
    assert answer(bank, SLOTS, SOURCES, GREEDY["both"]) == expected


def log_likelihood(model: Any, source: list[int], said: list[int], settings: GenerationSettings) -> float:
    """What a beam is ranked by, for two of one length; in float64 behind the logits."""
    ids = said if len(said) == settings.max_new_tokens else [*said, model.config.eos_token_id]
    start = [model.config.decoder_start_token_id, *ids[:-1]]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([start])).logits
    chosen = logits[0].double().log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
    return float(chosen.sum()) / len(ids) ** float(settings.length_penalty or 1.0)


@asked_of("long", "plain")
def test_beams(speaking: Speaking, which: str) -> None:
    bank, models = speaking
    settings = BEAMS[which]
    answers = answer(bank, SLOTS, SOURCES, settings)
    penalty = 1.0 if settings.length_penalty is None else settings.length_penalty
    for slot in SLOTS:
        stock = stock_answers(models[slot], bank.base.eos_token_id, settings, length_penalty=penalty)
        for source, ours, theirs in zip(SOURCES, answers[slot], stock, strict=True):
            if ours != theirs:  # two beams that the sums of float32 cannot tell apart
                scores = [log_likelihood(models[slot], source, said, settings) for said in (ours, theirs)]
                assert scores[0] == pytest.approx(scores[1], rel=1e-6), f"slot {slot}: {ours} {theirs}"


SAMPLING = {
    "plain": GenerationSettings(max_new_tokens=6, do_sample=True),
    "temperature": GenerationSettings(max_new_tokens=6, do_sample=True, temperature=0.7, top_k=7),
    "top_p": GenerationSettings(max_new_tokens=6, do_sample=True, top_p=0.6, repetition_penalty=1.4),
    "all": GenerationSettings(
        max_new_tokens=6, do_sample=True, temperature=1.5, top_k=20, top_p=0.8, no_repeat_ngram_size=2
    ),
}


@pytest.mark.parametrize(("speaking", "which"), product(TWO_KINDS, SAMPLING), indirect=["speaking"])
def test_processed_scores_are_transformers(speaking: Speaking, which: str) -> None:
    settings = SAMPLING[which]
    torch.manual_seed(0)
    out = speaking[1][None].generate(
        input_ids=torch.tensor([SOURCES[5]]),
        attention_mask=torch.ones(1, len(SOURCES[5]), dtype=torch.long),
        max_new_tokens=settings.max_new_tokens,
        do_sample=True,
        temperature=settings.temperature or 1.0,
        top_k=settings.top_k or 0,
        top_p=settings.top_p or 1.0,
        repetition_penalty=settings.repetition_penalty,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        output_logits=True,
        output_scores=True,
        return_dict_in_generate=True,
    )
    assert len(out.scores) >= 1
    for step, (logits, scores) in enumerate(zip(out.logits, out.scores, strict=True)):
        assert torch.equal(logits_processors(settings)(out.sequences[:, : step + 1], logits), scores)


@of_two_kinds
def test_a_rows_draws_do_not_depend_on_its_neighbours(
    speaking: Speaking,
) -> None:
    bank, _ = speaking
    together = answer(bank, SLOTS, SOURCES, SAMPLING["plain"], seed=3)
    alone = SAMPLING["plain"].model_copy(update={"batch_size": 1})
    for slot in SLOTS:
        assert answer(bank, [slot], SOURCES, alone, seed=3)[slot] == together[slot]
    assert answer(bank, SLOTS, SOURCES[:4], SAMPLING["plain"], seed=3)["a"] == together["a"][:4]
    assert answer(bank, SLOTS, SOURCES, SAMPLING["plain"], seed=4) != together


def test_draws_follow_the_distribution() -> None:
    """4,000 rows with generators of their own; within 5 standard deviations for every token."""
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    num = 4000
    generators = [torch.Generator().manual_seed(seed_for(1, "sample", row)) for row in range(num)]
    drawn = row_decoding.draw(probabilities.log().expand(num, -1), generators)
    counts = torch.bincount(drawn, minlength=4) / num
    deviation = (probabilities * (1 - probabilities) / num).sqrt()
    assert bool(((counts - probabilities).abs() < 5 * deviation).all())


def test_answering_leaves_the_model_as_it_was_and_counts_its_rows(mt5: Base) -> None:
    bank = AdapterBank(mt5)
    seen: list[int] = []
    mt5.model.train()
    answer(bank, [None], SOURCES, GenerationSettings(max_new_tokens=2, batch_size=4), on_rows=seen.append)
    assert seen == [4, 8, 11]
    assert mt5.model.training
    assert bank.current_pass is None
