"""Generation of answers by base and adapters in one pass.

Greedy decoding and sampling are a loop of our own (`row_decoding.py`). Beam search uses transformers'
`generate`, with the bank assigning each beam to its model, and with our configuration instead of the model's
(`decoding.py`), so that both obey the recipe and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from transformers.generation import LogitsProcessorList

from loraloom.bank.bank import AdapterBank
from loraloom.bank.ownership import Rows, Share, seed_for
from loraloom.data.languages.codes import DecoderStart
from loraloom.evaluate.decoding import generation_config, replaced_generation_config
from loraloom.evaluate.first_tokens import FirstTokens, forced_tokens
from loraloom.evaluate.row_decoding import RowDecoding, padded_rows
from loraloom.recipe import GenerationSettings
from loraloom.text.message import Message, joined


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
        on_answers: called after each token of a batch with the tokens so far of all rows, [slots · rows]; not
            with beams, of which none is the answer before the end.

    Returns:
        For each slot and row, the tokens of the answer without start and EOS, a forced one included.

    Raises:
        BankError: another thread is using the base, or a pass is in progress.
    """
    starts = starts or [DecoderStart(bank.base.start_token_id)] * len(sources)
    with _answering(bank):
        if settings.num_beams > 1:
            answers = _by_beams(bank, slots, sources, starts, settings, on_rows, on_token)
        else:
            seeds = [seed_for(seed, "sample", index) for index in range(len(sources))]
            counted = _CountedRows(len(sources), len(slots), on_rows)
            decoding = RowDecoding(
                bank, slots, sources, starts, settings, seeds, counted.add, on_token, on_answers
            )
            decoding.run()
            answers = decoding.answers
    return dict(zip(slots, answers, strict=True))


class _CountedRows:
    """Tells how many rows all models have answered.

    Args:
        num_rows: to answer.
        num_models: that answer each.
        on_rows: called with the number of rows that are finished.
    """

    def __init__(self, num_rows: int, num_models: int, on_rows: Callable[[int], None]) -> None:
        self._missing = [num_models] * num_rows
        self._num_done = 0
        self._on_rows = on_rows

    def add(self, rows: Sequence[int]) -> None:
        """Count an answer to each of these rows."""
        before = self._num_done
        for row in rows:
            self._missing[row] -= 1
            self._num_done += self._missing[row] == 0
        if self._num_done > before:
            self._on_rows(self._num_done)


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


def _by_beams(
    bank: AdapterBank,
    slots: Sequence[str | None],
    sources: Sequence[Sequence[int]],
    starts: Sequence[DecoderStart],
    settings: GenerationSettings,
    on_rows: Callable[[int], None],
    on_token: Callable[[], None],
) -> list[list[list[int]]]:
    """Answer with beams, [slots][rows][tokens]."""
    # Rows of similar length together, so that few tokens are padding.
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    answers: list[list[list[int]]] = [[[] for _ in sources] for _ in slots]
    for start in range(0, len(order), settings.batch_size):
        chosen = order[start : start + settings.batch_size]
        on_token()
        chunk, begun = [sources[index] for index in chosen], [starts[index] for index in chosen]
        for own, rows in zip(answers, _beams_of(bank, slots, chunk, begun, settings), strict=True):
            for index, row in zip(chosen, rows, strict=True):
                own[index] = row
        on_rows(start + len(chosen))
    return answers


def _beams_of(
    bank: AdapterBank,
    slots: Sequence[str | None],
    chunk: Sequence[Sequence[int]],
    starts: Sequence[DecoderStart],
    settings: GenerationSettings,
) -> list[list[list[int]]]:
    """Run transformers' beam search; the encoder sees a row once, the decoder once per beam."""
    input_ids, mask = (each.repeat(len(slots), 1) for each in padded_rows(bank.base, chunk))
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
