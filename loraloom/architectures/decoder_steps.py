"""Decoding token by token: the caches of the rows that are being answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from loraloom.architectures.family import Family


class DecoderSteps(Protocol):
    """The rows of a batch between two tokens.

    Each row has a line of the batch. All calls that compute belong inside a pass whose rows are theirs.
    """

    can_join: bool  # whether rows can start while others are in the middle of their answers

    def start(self, encoded: Tensor, source_mask: Tensor, lines: Tensor | None = None) -> None:
        """Start rows, whose next token is the first of their answers.

        Args:
            encoded: the encoder's states, [new rows, source_len, d_model].
            source_mask: int64 [new rows, source_len].
            lines: the lines that they take over, int64 [new rows], if `can_join`; None for a batch of them
                alone.
        """

    def keep(self, lines: Tensor) -> None:
        """Keep some lines in this order, int64 [lines], and free the others."""

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the decoder's states after the newest token of each line, [lines, d_model].

        Args:
            tokens: int64 [lines].
        """


class CachedSteps:
    """The decoder of transformers with its cache, for every family.

    Args:
        family: of the model.
        model: of the base.
    """

    can_join = False

    def __init__(self, family: Family, model: PreTrainedModel) -> None:
        self._family, self._model = family, model
        self._cache: Any = None
        self._encoded: Any = None
        self._source_mask: Any = None

    def start(self, encoded: Tensor, source_mask: Tensor, lines: Tensor | None = None) -> None:
        """Start a batch; see `DecoderSteps`."""
        assert lines is None, "rows of this family start together"
        self._cache = self._family.new_cache(self._model)
        self._encoded, self._source_mask = encoded, source_mask

    def keep(self, lines: Tensor) -> None:
        """Keep some lines; see `DecoderSteps`."""
        self._cache.batch_select_indices(lines)
        self._encoded, self._source_mask = self._encoded[lines], self._source_mask[lines]

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the states after the newest tokens; see `DecoderSteps`."""
        return self._family.decode_next(
            self._model, tokens[:, None], self._encoded, self._source_mask, self._cache
        )
