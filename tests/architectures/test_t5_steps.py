"""The T5 family's own decoder steps compute the states of transformers' decoder, whatever rows are there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from loraloom.architectures.decoder_steps import CachedSteps
from loraloom.architectures.t5_steps import FIRST_COLUMNS, T5Steps
from loraloom.base.loading import Base
from tests.families import T5_KINDS

LENGTHS = (9, 4, 7)
NUM_STEPS = 2 * FIRST_COLUMNS + 9  # the caches grow, and move to the front


def rows_of(base: Base, lengths: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Random encoder states, with padding, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    encoded = torch.randn(len(lengths), max(lengths), base.model.config.d_model, generator=generator)
    return encoded, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def states_alone(base: Base, encoded: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """The states of one row after each of its tokens, by transformers and without padding."""
    steps = CachedSteps(base.family, base.model)
    steps.start(encoded[:, : int(mask.sum())], mask[:, : int(mask.sum())])
    return torch.cat([steps.next_states(token[None]) for token in tokens])


@pytest.mark.parametrize("kind", T5_KINDS)
@torch.no_grad()
def test_rows_that_join_and_leave(loaded: Callable[[str], Base], kind: str) -> None:
    base = loaded(kind)
    base.model.eval()
    assert isinstance(base.family.steps(base.model), T5Steps)
    encoded, mask = rows_of(base, LENGTHS, seed=1)
    late, late_mask = rows_of(base, (6,), seed=2)
    tokens = torch.randint(3, 50, (4, NUM_STEPS), generator=torch.Generator().manual_seed(3))
    expected = [
        states_alone(base, encoded[row : row + 1], mask[row : row + 1], tokens[row]) for row in range(3)
    ]
    expected.append(states_alone(base, late, late_mask, tokens[3]))

    steps = base.family.steps(base.model)
    steps.start(encoded, mask)
    lines, counts = [0, 1, 2], [0, 0, 0, 0]
    for step in range(NUM_STEPS):
        if step == FIRST_COLUMNS // 2:  # the last row takes over the longest one's line
            steps.start(late, late_mask, torch.tensor([0]))
            lines[0] = 3
        if step == FIRST_COLUMNS:
            steps.keep(torch.tensor([2, 0]))
            lines = [lines[2], lines[0]]
        states = steps.next_states(torch.stack([tokens[row, counts[row]] for row in lines]))
        for state, row in zip(states, lines, strict=True):
            torch.testing.assert_close(state, expected[row][counts[row]], rtol=1e-4, atol=1e-5)
            counts[row] += 1
    assert counts[2] == NUM_STEPS
    assert counts[3] == NUM_STEPS - FIRST_COLUMNS // 2
