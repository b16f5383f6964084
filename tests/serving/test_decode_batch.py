"""A batch that rows join and leave computes what each row computes alone, in every family."""

from __future__ import annotations

import torch

from loraloom.base.loading import Base
from loraloom.evaluate.generation import answer
from loraloom.recipe import GenerationSettings
from loraloom.serving.decode_batch import DecodeBatch
from tests.serving.models import MAX_NEW_TOKENS, served

SLOTS = ("a0", None, "a2", "a1")
LENGTHS = (5, 11, 3, 8)
ARRIVALS = {0: (0,), 2: (1, 2), 5: (3,)}  # step -> the rows that join


@torch.no_grad()
def test_rows_that_join_and_leave_answer_as_alone(base: Base) -> None:
    bank = served(base, 3).bank
    generator = torch.Generator().manual_seed(5)
    sources = [
        [*torch.randint(3, 100, (length,), generator=generator).tolist(), base.eos_token_id]
        for length in LENGTHS
    ]
    language = "" if base.languages is None else next(iter(base.languages.codes))
    start = base.decoder_start(language)
    settings = GenerationSettings(max_new_tokens=MAX_NEW_TOKENS)
    alone = [
        answer(bank, [slot], [source], settings, starts=[start])[slot][0]
        for slot, source in zip(SLOTS, sources, strict=True)
    ]
    batch, present = DecodeBatch(bank), list[int]()
    tokens: list[list[int]] = [[] for _ in SLOTS]

    def take(logits: torch.Tensor, rows: list[int]) -> None:
        for row, token in zip(rows, logits.argmax(-1).tolist(), strict=True):
            is_forced = start.forced_token_id is not None and not tokens[row]
            tokens[row].append(start.forced_token_id if is_forced else token)

    for step in range(MAX_NEW_TOKENS + 6):
        if present:
            take(batch.step([tokens[row][-1] for row in present]), present)
        if new := list(ARRIVALS.get(step, ())):
            slots = [SLOTS[row] for row in new]
            encoded, mask = batch.encode(slots, [sources[row] for row in new])
            take(batch.join(slots, encoded, mask, [start.start_token_id] * len(new)), new)
            present += new
        stays = [
            number
            for number, row in enumerate(present)
            if len(tokens[row]) < MAX_NEW_TOKENS and tokens[row][-1] != base.eos_token_id
        ]
        batch.keep(stays)
        present = [present[number] for number in stays]
    assert not present
    assert [[token for token in row if token != base.eos_token_id] for row in tokens] == alone
    assert len({tuple(row) for row in alone}) > 1
