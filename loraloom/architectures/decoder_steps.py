"""Decoding token by token: the caches of the rows that are being answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


class DecoderSteps(Protocol):
    """The state of a batch between two decoding steps; a line is a row that is still being answered.

    Create the object, and call `next_states`, within a `with AdapterBank.rows(...)` block for these lines.
    """

    def keep(self, lines: Tensor) -> None:
        """Keep the lines with the given indices, int64 [lines], in this order, and drop the others."""

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the decoder's states after the newest token of each line, [lines, d_model].

        Args:
            tokens: int64 [lines].
        """


class CachedDecoder(Protocol):
    """The methods of a family that `CachedSteps` calls; see `Family`."""

    def new_cache(self, model: PreTrainedModel) -> Any:
        """Return an empty cache."""

    def decode_next(
        self, model: PreTrainedModel, tokens: Tensor, encoded: Tensor, source_mask: Tensor, cache: Any
    ) -> Tensor:
        """Return the decoder's state after the newest token of each row."""


class CachedSteps:
    """Decoding with transformers' own decoder and cache, for any family.

    Args:
        family: the model's family.
        model: the base's model.
        encoded: the encoder's states, [lines, source_len, d_model].
        source_mask: int64 [lines, source_len].
    """

    def __init__(
        self, family: CachedDecoder, model: PreTrainedModel, encoded: Tensor, source_mask: Tensor
    ) -> None:
        self._family, self._model = family, model
        self._encoded, self._source_mask = encoded, source_mask
        self._cache = family.new_cache(model)

    def keep(self, lines: Tensor) -> None:
        """Keep some lines; see `DecoderSteps`."""
        self._cache.batch_select_indices(lines)
        self._encoded, self._source_mask = self._encoded[lines], self._source_mask[lines]

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the states after the newest tokens; see `DecoderSteps`."""
        return self._family.decode_next(
            self._model, tokens[:, None], self._encoded, self._source_mask, self._cache
        )
