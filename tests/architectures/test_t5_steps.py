"""The T5 family's own decoder steps compute the states of transformers' decoder, whatever rows are left."""

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
NUM_STEPS = 2 * FIRST_COLUMNS + 9  # the caches grow twice


def rows_of(base: Base, lengths: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Random encoder states, with padding, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    encoded = torch.randn(len(lengths), max(lengths), base.model.config.d_model, generator=generator)
    return encoded, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def states_alone(base: Base, encoded: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """The states of one row after each of its tokens, by transformers and without padding."""
    visible = slice(int(mask.sum()))
    steps = CachedSteps(base.family, base.model, encoded[:, visible], mask[:, visible])
    return torch.cat([steps.next_states(token[None]) for token in tokens])


@pytest.mark.parametrize("kind", T5_KINDS)
@torch.no_grad()
def test_rows_that_leave(loaded: Callable[[str], Base], kind: str) -> None:
    base = loaded(kind)
    base.model.eval()
    encoded, mask = rows_of(base, LENGTHS, seed=1)
    tokens = torch.randint(3, 50, (3, NUM_STEPS), generator=torch.Generator().manual_seed(3))
    expected = [
        states_alone(base, encoded[row : row + 1], mask[row : row + 1], tokens[row]) for row in range(3)
    ]

    steps = base.family.steps(base.model, encoded, mask)
    assert isinstance(steps, T5Steps)
    rows = [0, 1, 2]
    for step in range(NUM_STEPS):
        if step == FIRST_COLUMNS + 1:
            steps.keep(torch.tensor([2, 0]))
            rows = [2, 0]
        states = steps.next_states(tokens[rows, step])
        for state, row in zip(states, rows, strict=True):
            torch.testing.assert_close(state, expected[row][step], rtol=1e-4, atol=1e-5)
