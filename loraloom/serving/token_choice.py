"""Choice of the next token of each row, with log-probabilities of the token and its alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.generation import LogitsProcessorList

from loraloom.evaluate.logits_processors import logits_processors
from loraloom.evaluate.row_decoding import draw
from loraloom.recipe import GenerationSettings


@dataclass(frozen=True)
class TokenLogprob:
    """A token and the likeliest alternatives, with their log-probabilities before decoding settings apply.

    Args:
        token: its id.
        logprob: natural logarithm of its probability.
        alternatives: ids and log-probabilities, likeliest first.
    """

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass
class RowChoice:
    """How the tokens of one row are chosen.

    Args:
        settings: temperature and other decoding settings.
        generator: random numbers for sampling; None for greedy decoding.
        num_logprobs: number of alternatives to report; None for no log-probabilities.
        forced: the first token of the answer, if the language of the answer determines it.
    """

    settings: GenerationSettings
    generator: torch.Generator | None = None
    num_logprobs: int | None = None
    forced: int | None = None
    processors: LogitsProcessorList = field(init=False)

    def __post_init__(self) -> None:
        self.processors = logits_processors(self.settings)


def choose_tokens(
    logits: Tensor, choices: Sequence[RowChoice], histories: Sequence[Sequence[int]]
) -> tuple[list[int], list[TokenLogprob | None]]:
    """Choose the next token of each row.

    Args:
        logits: float32 [rows, vocabulary].
        choices: how the token of each row is chosen.
        histories: the decoder's first input and the tokens chosen so far, for each row.

    Returns:
        The token of each row, or -1 if its logits are not finite; and its log-probability, if requested.
    """
    best, tokens = logits.max(-1)
    tokens = torch.where(best.isfinite(), tokens, -1)
    chosen = tokens.tolist()
    logprobs: list[TokenLogprob | None] = [None] * len(choices)
    for row, choice in enumerate(choices):
        if chosen[row] < 0:
            continue
        if choice.forced is not None and len(histories[row]) == 1:
            chosen[row] = choice.forced
        elif choice.processors or choice.generator is not None:
            chosen[row] = _processed(logits[row : row + 1], choice, histories[row])
        if choice.num_logprobs is not None:
            logprobs[row] = _logprob(logits[row], chosen[row], choice.num_logprobs)
    return chosen, logprobs


def _processed(logits: Tensor, choice: RowChoice, history: Sequence[int]) -> int:
    scores = choice.processors(torch.tensor([history], device=logits.device), logits.clone())
    if choice.generator is None:
        return int(scores.argmax(-1))
    return int(draw(scores, [choice.generator]))


def _logprob(logits: Tensor, token: int, num_alternatives: int) -> TokenLogprob:
    logprobs = logits.log_softmax(-1)
    values, ids = logprobs.topk(min(num_alternatives, len(logprobs)))
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return TokenLogprob(token, float(logprobs[token]), tuple(pairs))
