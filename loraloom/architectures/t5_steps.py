"""The decoder of the T5 family, token by token, with caches that rows join and leave.

transformers appends to its caches, which copies them for every token and layer, and makes masks and biases in
every layer. Here a token is written in place, and masks and biases are made once.

All rows write to the same column of the cache, so that a token is one write whatever rows have joined. A row
that joined later has masked columns before its first; positions are distances in this family, so its states
are those of a row that started in column 0.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_COLUMNS = 32


class T5Steps:
    """The decoder's layers with caches; as described in `DecoderSteps`.

    Args:
        model: of the T5 family.
    """

    can_join = True

    def __init__(self, model: Any) -> None:
        self._decoder = model.get_decoder()
        self._layers = [_Layer(block) for block in self._decoder.block]
        self._column = 0  # the next one that is written
        self._begun = torch.empty(0, dtype=torch.int64)  # each line's first column
        self._lengths = torch.empty(0, dtype=torch.int64)  # of the sources
        self._source_mask = torch.empty(0)  # what is added to scores, [lines, 1, 1, source_len]
        self._earliest = self._latest = 0  # first columns
        self._width = 0  # of the longest source

    def start(self, encoded: Tensor, source_mask: Tensor, lines: Tensor | None = None) -> None:
        """Start rows; see `DecoderSteps`. A source that joins is no longer than the longest of the first."""
        lengths = _lengths(source_mask)
        lowest = torch.finfo(encoded.dtype).min
        mask = (1 - source_mask[:, None, None, :]).to(encoded.dtype) * lowest
        if lines is None:
            self._column = 0
            self._begun = torch.zeros(len(encoded), dtype=torch.int64, device=encoded.device)
            self._lengths, self._source_mask = lengths, mask
        else:
            width = encoded.shape[1]
            self._begun[lines], self._lengths[lines] = self._column, lengths
            self._source_mask[lines] = lowest
            self._source_mask[lines, :, :, :width] = mask
        for layer in self._layers:
            layer.start(encoded, lines)
        self._note_bounds()

    def keep(self, lines: Tensor) -> None:
        """Keep some lines; see `DecoderSteps`."""
        self._begun, self._lengths = self._begun[lines], self._lengths[lines]
        self._source_mask = self._source_mask[lines]
        self._note_bounds()
        for layer in self._layers:
            layer.keep(lines, self._width)
        self._source_mask = self._source_mask[..., : self._width]

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the states after the newest tokens; see `DecoderSteps`."""
        self._make_room()
        hidden = self._decoder.embed_tokens(tokens)[:, None]
        columns = slice(self._earliest, self._column + 1)
        own_mask, mask = self._own_mask(columns, hidden.dtype), None
        source_mask = self._source_mask[..., : self._width]
        for layer in self._layers:
            if layer.bias is not None:
                mask = layer.bias[..., layer.num_columns - (columns.stop - columns.start) :]
                mask = mask if own_mask is None else mask + own_mask
            hidden = layer.attend(hidden, columns, mask)
            hidden = layer.attend_to_source(hidden, source_mask, self._width)
            hidden = layer.feed_forward(hidden)
        self._column += 1
        return self._decoder.final_layer_norm(hidden)[:, 0]  # type: ignore[no-any-return]

    def _own_mask(self, columns: slice, dtype: torch.dtype) -> Tensor | None:
        """Return what hides the columns before a line's first, [lines, 1, 1, columns]; None if none are."""
        if self._latest == self._earliest:
            return None
        numbers = torch.arange(columns.start, columns.stop, device=self._begun.device)
        is_hidden = numbers < self._begun[:, None]
        return is_hidden[:, None, None].to(dtype) * torch.finfo(dtype).min

    def _note_bounds(self) -> None:
        self._earliest, self._latest = int(self._begun.min()), int(self._begun.max())
        self._width = int(self._lengths.max())

    def _make_room(self) -> None:
        """Move the columns that are in use to the front if they reach the end, or enlarge the caches."""
        num_columns = self._layers[0].num_columns
        if self._column < num_columns:
            return
        used = slice(self._earliest, self._column)
        if 2 * (used.stop - used.start) >= num_columns:
            num_columns = max(2 * num_columns, FIRST_COLUMNS)
        for layer in self._layers:
            layer.move(used, num_columns)
        self._begun -= used.start
        self._column -= used.start
        self._earliest, self._latest = 0, self._latest - used.start


class _Layer:
    """A layer of the decoder, with its keys and values.

    Args:
        block: transformers'.
    """

    def __init__(self, block: Any) -> None:
        own, cross, feed_forward = block.layer
        self._own_norm, self._own = own.layer_norm, own.SelfAttention
        self._cross_norm, self._cross = cross.layer_norm, cross.EncDecAttention
        self._feed_forward_norm, self._dense = feed_forward.layer_norm, feed_forward.DenseReluDense
        self._keys = self._values = torch.empty(0)  # [lines, heads, columns, size]
        self._source_keys = self._source_values = torch.empty(0)  # [lines, heads, source_len, size]
        self.bias: Tensor | None = None  # [1, heads, 1, columns], for a token in the last of the columns
        self.num_columns = 0

    def start(self, encoded: Tensor, lines: Tensor | None) -> None:
        keys, values = (_heads(project(encoded), self._cross) for project in (self._cross.k, self._cross.v))
        if lines is None:
            self._source_keys, self._source_values = keys, values
            self._keys = self._values = keys.new_empty((*keys.shape[:2], 0, keys.shape[3]))
            self.num_columns, self.bias = 0, None
            return
        width = encoded.shape[1]
        self._source_keys[lines, :, :width], self._source_values[lines, :, :width] = keys, values

    def keep(self, lines: Tensor, width: int) -> None:
        self._keys, self._values = self._keys[lines], self._values[lines]
        self._source_keys = self._source_keys[:, :, :width][lines]
        self._source_values = self._source_values[:, :, :width][lines]

    def move(self, used: slice, num_columns: int) -> None:
        """Move the columns in use to the front of caches of this size."""
        self._keys, self._values = (_moved(old, used, num_columns) for old in (self._keys, self._values))
        if self._own.has_relative_attention_bias and num_columns != self.num_columns:
            self.bias = _bias(self._own, num_columns)
        self.num_columns = num_columns

    def attend(self, hidden: Tensor, columns: slice, mask: Tensor | None) -> Tensor:
        """Self-attention over these columns, the last of which is the new token's."""
        x, attention = self._own_norm(hidden), self._own
        self._keys[:, :, columns.stop - 1 : columns.stop] = _heads(attention.k(x), attention)
        self._values[:, :, columns.stop - 1 : columns.stop] = _heads(attention.v(x), attention)
        keys, values = self._keys[:, :, columns], self._values[:, :, columns]
        return hidden + _attended(attention, x, keys, values, mask)

    def attend_to_source(self, hidden: Tensor, mask: Tensor, width: int) -> Tensor:
        """Cross-attention over the first `width` tokens of the sources."""
        keys, values = self._source_keys[:, :, :width], self._source_values[:, :, :width]
        return hidden + _attended(self._cross, self._cross_norm(hidden), keys, values, mask)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        return hidden + self._dense(self._feed_forward_norm(hidden))  # type: ignore[no-any-return]


def has_steps(model: Any) -> bool:
    """Return whether the decoder's layers are those that are computed here."""
    blocks = getattr(model.get_decoder(), "block", ())
    names = {type(block).__name__ for block in blocks}
    return bool(names) and names <= {"T5Block", "MT5Block", "UMT5Block"}


def _attended(attention: Any, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    queries = _heads(attention.q(x), attention)
    states = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)
    return attention.o(states.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _heads(x: Tensor, attention: Any) -> Tensor:
    """[lines, len, heads · size] → [lines, heads, len, size]."""
    heads: Tensor = x.unflatten(2, (-1, attention.key_value_proj_dim)).transpose(1, 2)
    return heads


def _bias(attention: Any, num_columns: int) -> Tensor:
    """Return the bias of a token in the last column for each column, [1, heads, 1, columns]."""
    device = attention.relative_attention_bias.weight.device
    # Of all pairs, because the name of the argument for a single one depends on transformers' version.
    bias: Tensor = attention.compute_bias(num_columns, num_columns, device)
    return bias[:, :, -1:].contiguous()


def _moved(old: Tensor, used: slice, num_columns: int) -> Tensor:
    new = old.new_zeros((*old.shape[:2], num_columns, old.shape[3]))
    new[:, :, : used.stop - used.start] = old[:, :, used]
    return new


def _lengths(source_mask: Tensor) -> Tensor:
    """Return the number of columns up to the last visible one, int64 [rows]."""
    columns = torch.arange(1, source_mask.shape[1] + 1, device=source_mask.device)
    return (source_mask * columns).amax(1)
