"""A batch of rows that are being answered; rows join and leave it between two decode steps.

The rows have different numbers of tokens. Their self-attention caches end at the same column, and a shorter
row has masked columns before its own. A model family either uses positions only as distances between
tokens or gets each token's position in its own row (`counts_positions`), so a row's states do not depend on
the column in which the row begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

from loraloom.architectures.cache_keyword import cache_keyword
from loraloom.architectures.positions import at_positions
from loraloom.bank.bank import AdapterBank
from loraloom.bank.indexed_rows import IndexedRows
from loraloom.bank.linear import AdapterPass
from loraloom.bank.owned_logits import owned_logits
from loraloom.bank.wide_products import RowProducts, WideProducts
from loraloom.evaluate.row_decoding import padded_rows


class DecodeBatch:
    """The rows that are being answered, apart from the requests that they belong to.

    Args:
        bank: bank with the adapters attached; call `adapters_changed` after attaching or dropping one.
    """

    def __init__(self, bank: AdapterBank) -> None:
        self.bank = bank
        self.num_passes = 0  # of the decoder
        self._products: WideProducts | None = None
        self._of_rows: RowProducts | None = None
        self._follows: AdapterPass | None = None
        self.clear()
        self.adapters_changed()

    def clear(self) -> None:
        """Remove all rows."""
        self.slots: list[str | None] = []
        self._lengths: list[int] = []  # number of columns of the cache that belong to each row
        self._cache: Any = None
        self._encoded = self._source_mask = torch.empty(0)
        self._of_rows = None

    def __len__(self) -> int:
        return len(self.slots)

    def adapters_changed(self) -> None:
        """Prepare the batch for the adapters that are attached now."""
        products = WideProducts(self.bank) if self.bank.slots else None
        self._products = products if products is not None and products.is_worthwhile else None
        self._of_rows = self._follows = None

    def encode(self, slots: Sequence[str | None], sources: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Encode the sources of new rows.

        Returns:
            The encoder's states [rows, len, d_model], and the mask of source tokens, int64 [rows, len].
        """
        base = self.bank.base
        input_ids, mask = padded_rows(base, sources, num_models=1)
        with self._open(slots, self._row_products(slots)):
            return base.family.encode(base.model, input_ids, mask), mask

    def join(
        self, slots: Sequence[str | None], encoded: Tensor, mask: Tensor, starts: Sequence[int]
    ) -> Tensor:
        """Add rows after the existing ones, and compute the logits of their first tokens.

        Args:
            slots: the adapter of each row; None for the base.
            encoded, mask: states and mask of the rows, as returned by `encode`.
            starts: the decoder's first input for each row.

        Returns:
            float32 [new rows, vocabulary].
        """
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        tokens = torch.tensor(starts, device=encoded.device)[:, None]
        products = self._row_products(slots)
        logits = self._pass(slots, products, tokens, encoded, mask, cache, lengths=[0] * len(slots))
        if not self.slots:
            self._cache, self._encoded, self._source_mask = cache, encoded, mask
        else:
            self._encoded = _joined(self._encoded, encoded, 1)
            self._source_mask = _joined(self._source_mask, mask, 1)
            _join_caches(self._cache, cache)
        self.slots += slots
        self._lengths += [1] * len(slots)
        self._of_rows = None
        return logits

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Compute the logits of the next token of every row.

        Args:
            tokens: the newest token of each row.

        Returns:
            float32 [rows, vocabulary].
        """
        if self._of_rows is None:
            self._of_rows = self._row_products(self.slots)
        newest = torch.tensor(tokens, device=self._encoded.device)[:, None]
        logits = self._pass(
            self.slots, self._of_rows, newest, self._encoded, self._source_mask, self._cache, self._lengths
        )
        self._lengths = [length + 1 for length in self._lengths]
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, and only the columns that at least one of them uses."""
        if len(rows) == len(self.slots):
            return
        if not rows:
            self.clear()
            return
        index = torch.tensor(rows, device=self._encoded.device)
        self.slots = [self.slots[row] for row in rows]
        self._lengths = [self._lengths[row] for row in rows]
        self._source_mask = self._source_mask[index]
        width = int(self._source_mask.sum(1).max())
        self._source_mask = self._source_mask[:, :width]
        self._encoded = self._encoded[index, :width]
        for layer in self._cache.cross_attention_cache.layers:
            layer.keys, layer.values = layer.keys[index, :, :width], layer.values[index, :, :width]
        length = max(self._lengths)
        for layer in self._cache.self_attention_cache.layers:
            layer.keys, layer.values = layer.keys[index, :, -length:], layer.values[index, :, -length:]
        self._of_rows = None

    def _pass(
        self,
        slots: Sequence[str | None],
        products: RowProducts | None,
        tokens: Tensor,
        encoded: Tensor,
        source_mask: Tensor,
        cache: Any,
        lengths: Sequence[int],
    ) -> Tensor:
        """Run one pass of the decoder, and the output head."""
        base = self.bank.base
        own = torch.tensor(lengths, device=tokens.device)[:, None]
        num_columns = cache.get_seq_length() + 1
        column = torch.arange(num_columns, device=tokens.device)
        mask = (column >= num_columns - 1 - own).long()
        decoder = base.model.get_decoder()
        # Rotated keys make positions distances, but T5Gemma 2 does not rotate the keys of
        # the source, so that a query has to have its own position.
        numbered = {"position_ids": own} if "position_ids" in signature(decoder.forward).parameters else {}
        self.num_passes += 1
        with self._open(slots, products), at_positions(own if base.family.counts_positions else None):
            states = decoder(
                input_ids=tokens,
                attention_mask=mask,
                encoder_hidden_states=encoded,
                encoder_attention_mask=source_mask,
                use_cache=True,
                **numbered,
                **{cache_keyword(decoder): cache},
            ).last_hidden_state
        return owned_logits(self.bank.base, states[:, -1], slots)

    def _row_products(self, slots: Sequence[str | None]) -> RowProducts | None:
        return None if self._products is None else self._products.of_rows(slots)

    def _open(self, slots: Sequence[str | None], products: RowProducts | None) -> Any:
        follows = None if products is not None else self._follows
        return _Passes(self, IndexedRows(tuple(slots)), products, follows)


class _Passes:
    """Context manager of a pass through the bank; the pass is kept, so that the next can reuse its work."""

    def __init__(
        self, batch: DecodeBatch, rows: IndexedRows, fused: RowProducts | None, follows: AdapterPass | None
    ) -> None:
        self._batch = batch
        self._opened = batch.bank.rows(rows, fused=fused, follows=follows)

    def __enter__(self) -> None:
        self._batch._follows = self._opened.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)


def _joined(old: Tensor, new: Tensor, dim: int) -> Tensor:
    """Append new rows to old ones; the shorter ones are padded with zeros at the end of a dimension."""
    size = max(old.shape[dim], new.shape[dim])
    return torch.cat([_padded(old, dim, size), _padded(new, dim, size)])


def _padded(rows: Tensor, dim: int, size: int) -> Tensor:
    missing = size - rows.shape[dim]
    return F.pad(rows, [0, 0] * (rows.dim() - 1 - dim) + [0, missing]) if missing else rows


def _join_caches(cache: Any, other: Any) -> None:
    """Append the rows of another cache; sources are aligned at their starts, and answers at their ends."""
    for own, new in zip(cache.cross_attention_cache.layers, other.cross_attention_cache.layers, strict=True):
        own.keys, own.values = _joined(own.keys, new.keys, 2), _joined(own.values, new.values, 2)
    for own, new in zip(cache.self_attention_cache.layers, other.self_attention_cache.layers, strict=True):
        own.keys, own.values = _ending(own.keys, new.keys), _ending(own.values, new.values)


def _ending(old: Tensor, new: Tensor) -> Tensor:
    """Append new rows [rows, heads, columns, d] to old ones; shorter ones get zero columns in front."""
    size = max(old.shape[2], new.shape[2])
    return torch.cat([F.pad(each, [0, 0, size - each.shape[2], 0]) for each in (old, new)])
