"""Generation of answers by base and adapters in one pass.

Greedy decoding and sampling are a loop of our own: the rows of all models are in one batch, caches are
kept, and finished rows are removed. The logits processors are those of transformers. Beam search uses
transformers' `generate`, with the bank assigning each beam to its model, and with our configuration
instead of the model's (`decoding.py`), so that both obey the recipe and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.generation import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from loraloom.bank.bank import AdapterBank
from loraloom.bank.objective import output_head
from loraloom.bank.ownership import Rows, Share, seed_for
from loraloom.data.languages.codes import DecoderStart
from loraloom.evaluate.decoding import generation_config, replaced_generation_config
from loraloom.evaluate.first_tokens import FirstTokens, forced_tokens
from loraloom.recipe import GenerationSettings
from loraloom.text.message import Message, joined

# Removing rows copies the caches, so several rows are removed at once.
LEAVING_SHARE = 0.125


def cut_words(num_tokens: Mapping[str, Sequence[int]], max_new_tokens: int) -> str:
    """Describe in one sentence the answers that reached the maximum length; "" if none did.

    Args:
        num_tokens: model → number of tokens of each of its answers, without EOS.
        max_new_tokens: maximum number of tokens of an answer.
    """
    cut = {model: sum(number >= max_new_tokens for number in own) for model, own in num_tokens.items()}
    counts = [
        Message(
            "{model} {number:,} of {num_tokens:,}",
            model=model,
            number=number,
            num_tokens=len(num_tokens[model]),
        )
        for model, number in cut.items()
        if number
    ]
    limit = Message("generation.max_new_tokens ({max_new_tokens})", max_new_tokens=max_new_tokens)
    return (
        Message("answers were truncated at {limit}: {counts}", limit=limit, counts=joined(", ", counts))
        if counts
        else ""
    )


@torch.no_grad()
def answer(
    bank: AdapterBank,
    slots: Sequence[str | None],
    sources: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    starts: Sequence[DecoderStart] = (),
    seed: int = 0,
    on_rows: Callable[[int], None] = lambda done: None,
    on_token: Callable[[], None] = lambda: None,
    on_answers: Callable[[Sequence[Sequence[int]]], None] = lambda answers: None,
) -> dict[str | None, list[list[int]]]:
    """Answer the same rows with every adapter, and with the base as `None`.

    Args:
        bank: with the adapters attached.
        slots: the models that answer.
        sources: token ids of each row, EOS last.
        settings: how to decode; `batch_size` rows at a time for each slot.
        starts: what the answer to each row begins with; by default what the base's answers always do.
        seed: for sampling; the draws of a row do not depend on the other rows of its batch.
        on_rows: called with the number of rows that are finished.
        on_token: called before each token of a batch, and each batch of beams; may raise to stop.
        on_answers: called after each token of a batch with the tokens so far of its rows, [slots · rows]; not
            with beams, of which none is the answer before the end.

    Returns:
        For each slot and row, the tokens of the answer without start and EOS, a forced one included.

    Raises:
        BankError: another thread is using the base, or a pass is in progress.
    """
    # Rows of similar length together, so that few tokens are padding.
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    answers: dict[str | None, list[list[int]]] = {slot: [[] for _ in sources] for slot in slots}
    starts = starts or [DecoderStart(bank.base.start_token_id)] * len(sources)
    with _answering(bank):
        for start in range(0, len(order), settings.batch_size):
            chosen = order[start : start + settings.batch_size]
            chunk = [sources[index] for index in chosen]
            seeds = [seed_for(seed, "sample", index) for index in chosen]
            begun = [starts[index] for index in chosen]
            if settings.num_beams > 1:
                decoded = _by_beams(bank, slots, chunk, begun, settings, seeds, on_token)
            else:
                decoded = _row_by_row(bank, slots, chunk, begun, settings, seeds, on_token, on_answers)
            for slot, rows in zip(slots, decoded, strict=True):
                for index, row in zip(chosen, rows, strict=True):
                    answers[slot][index] = row
            on_rows(start + len(chosen))
    return answers


@contextmanager
def _answering(bank: AdapterBank) -> Iterator[None]:
    """Put the base in eval mode; in train mode with checkpointing, transformers refuses a cache.

    The mode belongs to the base, so no other thread may change it in the meantime.
    """
    with bank.hold():
        was_training = bank.base.model.training
        bank.base.model.eval()
        try:
            yield
        finally:
            bank.base.model.train(was_training)


def _padded(
    bank: AdapterBank, slots: Sequence[str | None], chunk: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """input_ids and attention mask, int64 [slots · rows, len]: the same rows once for each slot."""
    width = max(len(row) for row in chunk)
    input_ids = torch.full((len(chunk), width), bank.base.pad_token_id)
    mask = torch.zeros(len(chunk), width, dtype=torch.long)
    for number, row in enumerate(chunk):
        input_ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    device = bank.base.device
    return input_ids.repeat(len(slots), 1).to(device), mask.repeat(len(slots), 1).to(device)


def _row_by_row(
    bank: AdapterBank,
    slots: Sequence[str | None],
    chunk: Sequence[Sequence[int]],
    starts: Sequence[DecoderStart],
    settings: GenerationSettings,
    seeds: Sequence[int],
    on_token: Callable[[], None],
    on_answers: Callable[[Sequence[Sequence[int]]], None],
) -> list[list[list[int]]]:
    """Generate greedy or sampled answers, [slots][rows][tokens]."""
    model, family, device = bank.base.model, bank.base.family, bank.base.device
    eos, num_rows = bank.base.eos_token_id, len(slots) * len(chunk)
    input_ids, source_mask = _padded(bank, slots, chunk)
    owners = [slot for slot in slots for _ in chunk]
    processors = logits_processors(settings)
    # A separate generator for each row and model, so that draws are independent of one another.
    generators = [torch.Generator(device).manual_seed(seed) for _ in slots for seed in seeds]
    with bank.rows(Rows(tuple(Share(slot, len(chunk)) for slot in slots))) as first:
        encoded = family.encode(model, input_ids, source_mask)
    cache = family.new_cache(model)
    generated = torch.tensor([[start.start_token_id] for start in starts] * len(slots), device=device)
    forced: Tensor | None = forced_tokens(starts, len(slots), device)
    alive = list(range(num_rows))  # index of the row that each line of the batch answers
    is_done = torch.zeros(num_rows, dtype=torch.bool, device=device)
    answers: list[list[int]] = [[] for _ in range(num_rows)]
    for _ in range(settings.max_new_tokens):
        on_token()
        with bank.rows(_shares([owners[row] for row in alive]), follows=first):
            hidden = family.decode_next(model, generated[:, -1:], encoded, source_mask, cache)
        scores = processors(generated, _logits(bank, hidden))
        chosen = (
            _draw(scores, [generators[row] for row in alive]) if settings.do_sample else scores.argmax(-1)
        )
        if forced is not None:
            chosen, forced = torch.where(forced >= 0, forced, chosen), None
        generated = torch.cat([generated, chosen[:, None]], dim=1)
        for line, token in enumerate(chosen.tolist()):
            if not is_done[line] and token != eos:
                answers[alive[line]].append(token)
        on_answers(answers)
        is_done |= chosen == eos
        num_done = int(is_done.sum())
        if num_done == len(alive):
            break
        if num_done >= LEAVING_SHARE * len(alive):
            staying = (~is_done).nonzero()[:, 0]
            cache.batch_select_indices(staying)
            generated, encoded, source_mask = generated[staying], encoded[staying], source_mask[staying]
            alive = [alive[line] for line in staying.tolist()]
            is_done = is_done[staying]
    return [answers[number * len(chunk) : (number + 1) * len(chunk)] for number in range(len(slots))]


def _logits(bank: AdapterBank, hidden: Tensor) -> Tensor:
    """float32 [rows, vocabulary]: the model's own head, with what its family does around it."""
    head = output_head(bank.base)
    logits = (hidden * head.scale @ head.weight.t()).float()
    if head.bias is not None:
        logits = logits + head.bias.float()
    return head.softcap * torch.tanh(logits / head.softcap) if head.softcap is not None else logits


def _shares(owners: Sequence[str | None]) -> Rows:
    """Convert the owners of consecutive lines to shares."""
    shares: list[Share] = []
    for owner in owners:
        if shares and shares[-1].slot == owner:
            shares[-1] = Share(owner, shares[-1].num_rows + 1)
        else:
            shares.append(Share(owner, 1))
    return Rows(tuple(shares))


def logits_processors(settings: GenerationSettings) -> Any:
    """Create transformers' processors, in the order in which its `generate` applies them."""
    processors = LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(float(settings.repetition_penalty)))
    if settings.no_repeat_ngram_size:
        processors.append(NoRepeatNGramLogitsProcessor(settings.no_repeat_ngram_size))
    if settings.do_sample:
        if settings.temperature not in (None, 1.0):
            processors.append(TemperatureLogitsWarper(float(settings.temperature)))
        if settings.top_k is not None:
            processors.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p is not None and settings.top_p < 1:
            processors.append(TopPLogitsWarper(float(settings.top_p)))
    return processors


def _draw(scores: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token per line from softmax(scores), each with the generator of its row."""
    probabilities = scores.softmax(-1)
    drawn = [torch.multinomial(p, 1, generator=g) for p, g in zip(probabilities, generators, strict=True)]
    return torch.cat(drawn)


def _by_beams(
    bank: AdapterBank,
    slots: Sequence[str | None],
    chunk: Sequence[Sequence[int]],
    starts: Sequence[DecoderStart],
    settings: GenerationSettings,
    seeds: Sequence[int],
    on_token: Callable[[], None],
) -> list[list[list[int]]]:
    """Run transformers' beam search; the encoder sees a row once, the decoder once per beam."""
    on_token()
    input_ids, mask = _padded(bank, slots, chunk)
    rows = Rows(tuple(Share(slot, len(chunk)) for slot in slots), expansion=settings.num_beams)
    config = generation_config(bank.base, settings)
    if len({start.start_token_id for start in starts}) > 1:
        config.decoder_start_token_id = [start.start_token_id for start in starts] * len(slots)
    else:
        config.decoder_start_token_id = starts[0].start_token_id
    forced = forced_tokens(starts, len(slots), bank.base.device)
    processors = [] if forced is None else [FirstTokens(forced.repeat_interleave(settings.num_beams))]
    with bank.rows(rows), replaced_generation_config(bank.base, config):
        out = bank.base.model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList(processors),
        )
    answers = [_without_specials(row, bank.base.eos_token_id) for row in out[:, 1:].tolist()]
    return [answers[number * len(chunk) : (number + 1) * len(chunk)] for number in range(len(slots))]


def _without_specials(tokens: Sequence[int], eos: int) -> list[int]:
    return list(tokens[: tokens.index(eos)] if eos in tokens else tokens)
