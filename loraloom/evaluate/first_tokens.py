"""First tokens of answers that depend on each row's language, for batches with several languages.

transformers' `forced_bos_token_id` is one token for a whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from loraloom.data.languages.codes import DecoderStart


def forced_tokens(starts: Sequence[DecoderStart], num_slots: int, device: torch.device) -> Tensor | None:
    """Return the forced first token of each answer; None if no answer has one.

    Returns:
        int64 [slots · rows]; -1 where the model chooses the token.
    """
    tokens = [-1 if start.forced_token_id is None else start.forced_token_id for start in starts]
    return torch.tensor(tokens * num_slots, device=device) if max(tokens) >= 0 else None


class FirstTokens(LogitsProcessor):  # type: ignore[misc]
    """A logits processor that forces the first token of each beam, not one token for the whole batch.

    Args:
        tokens: first token of each beam, int64 [beams]; -1 if the model chooses it.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the scores [beams, vocabulary]; for the first token, only the forced token is allowed."""
        if input_ids.shape[1] > 1:
            return scores
        is_forced = self._tokens >= 0
        only = torch.full_like(scores, -torch.inf).scatter(1, self._tokens.clamp(min=0)[:, None], 0.0)
        return torch.where(is_forced[:, None], only, scores)
