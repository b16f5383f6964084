"""Generation of answers by base and adapters in one pass.

Greedy decoding and sampling are a loop of our own (`row_decoding.py`). Beam search uses transformers'
`generate` (`beam_decoding.py`). Both use only the recipe's settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.data.languages.codes import DecoderStart
from loraloom.data.ownership import seed_for
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.evaluate.beam_decoding import BeamDecoding
from loraloom.evaluate.row_decoding import RowDecoding
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
    on_logits: Callable[[Sequence[int], Tensor], None] | None = None,
    ranks: Ranks = ONE_PROCESS,
) -> dict[str | None, list[list[int]]]:
    """Answer the same rows with several adapters and the base.

    Args:
        bank: the bank, with the adapters attached.
        slots: the models that answer; None is the base.
        sources: token ids of each row, EOS last.
        settings: how to decode; `batch_size` rows at a time for each slot.
        starts: beginning of the answer to each row; by default the base's start token.
        seed: for sampling; the draws of a row do not depend on the other rows of its batch.
        on_rows: called with the number of rows that are finished.
        on_token: called before each token of a batch, or with beams, before each batch; may raise to stop.
        on_answers: called after each token of a batch with the tokens generated so far for all rows,
            [slots · rows]; not with beams, because no beam is the answer before the end.
        on_logits: called before each token is chosen, as in `RowDecoding`; not with beams.
        ranks: the processes that share the batches; answers to rows that other ranks answer are empty.

    Returns:
        For each slot and row, the tokens of the answer without start and EOS, but with a forced first token.

    Raises:
        BankError: another thread is using the base, or a pass is in progress.
    """
    # Rows of similar length together, so that few tokens are padding.
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    starts = starts or [DecoderStart(bank.base.start_token_id)] * len(sources)
    seeds = [seed_for(seed, "sample", index) for index in range(len(sources))]
    decoding: BeamDecoding | RowDecoding
    with _answering(bank):
        if settings.num_beams > 1:
            decoding = BeamDecoding(bank, slots, sources, starts, settings, on_token)
        else:
            decoding = RowDecoding(
                bank, slots, sources, starts, settings, seeds, on_token, on_answers, on_logits
            )
        for number, start in enumerate(range(0, len(order), settings.batch_size)):
            if not ranks.owns(number):
                continue
            chosen = order[start : start + settings.batch_size]
            decoding.answer(chosen)
            on_rows(start + len(chosen))
    return dict(zip(slots, decoding.answers, strict=True))


@contextmanager
def _answering(bank: AdapterBank) -> Iterator[None]:
    """Put the base in eval mode in a `with` block; in train mode with checkpointing, no cache can be used.

    The mode belongs to the base, which other threads therefore cannot use during the block.
    """
    with bank.hold():
        was_training = bank.base.model.training
        bank.base.model.eval()
        try:
            yield
        finally:
            bank.base.model.train(was_training)
