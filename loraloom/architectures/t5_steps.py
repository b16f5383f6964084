"""Token-by-token decoding for the T5 family, with caches that are written in place.

transformers appends to its caches, which copies them for every token and layer, and makes masks and biases
for every token. Here the mask is made once, and the biases are made only when the caches are enlarged.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST_COLUMNS = 32


class T5Steps:
    """The decoder's layers with caches; see `DecoderSteps`.

    Args:
        model: a model of the T5 family.
        encoded: the encoder's states, [lines, source_len, d_model].
        source_mask: int64 [lines, source_len].
    """

    def __init__(self, model: Any, encoded: Tensor, source_mask: Tensor) -> None:
        self._decoder = model.get_decoder()
        self._layers = [_Layer(block, encoded) for block in self._decoder.block]
        self._num_tokens = self._num_columns = 0  # of the caches, in use and in total
        is_hidden = (1 - source_mask[:, None, None, :]).to(encoded.dtype)
        self._source_mask = is_hidden * torch.finfo(encoded.dtype).min  # added to the scores

    def keep(self, lines: Tensor) -> None:
        """Keep some lines; see `DecoderSteps`."""
        self._source_mask = self._source_mask[lines]
        for layer in self._layers:
            layer.keep(lines)

    def next_states(self, tokens: Tensor) -> Tensor:
        """Return the states after the newest tokens; see `DecoderSteps`."""
        if self._num_tokens == self._num_columns:
            self._num_columns = max(2 * self._num_columns, FIRST_COLUMNS)
            for layer in self._layers:
                layer.enlarge(self._num_columns)
        self._num_tokens += 1
        hidden, bias = self._decoder.embed_tokens(tokens)[:, None], None
        for layer in self._layers:
            if layer.bias is not None:  # later layers without a bias use this one
                bias = layer.bias[..., -self._num_tokens :]
            hidden = layer.attend(hidden, self._num_tokens, bias)
            hidden = layer.attend_to_source(hidden, self._source_mask)
            hidden = layer.feed_forward(hidden)
        return self._decoder.final_layer_norm(hidden)[:, 0]  # type: ignore[no-any-return]


class _Layer:
    """A layer of the decoder, with its cached keys and values.

    Args:
        block: transformers' module of the layer.
        encoded: the encoder's states, [lines, source_len, d_model].
    """

    def __init__(self, block: Any, encoded: Tensor) -> None:
        own, cross, feed_forward = block.layer
        self._own_norm, self._own = own.layer_norm, own.SelfAttention
        self._cross_norm, self._cross = cross.layer_norm, cross.EncDecAttention
        self._feed_forward_norm, self._dense = feed_forward.layer_norm, feed_forward.DenseReluDense
        self._source_keys = _heads(self._cross.k(encoded), self._cross)  # [lines, heads, source_len, size]
        self._source_values = _heads(self._cross.v(encoded), self._cross)
        self._keys = self._values = self._source_keys[:, :, :0]  # [lines, heads, columns, size]
        self.bias: Tensor | None = None  # [1, heads, 1, columns], for a token in the last of the columns

    def keep(self, lines: Tensor) -> None:
        self._keys, self._values = self._keys[lines], self._values[lines]
        self._source_keys, self._source_values = self._source_keys[lines], self._source_values[lines]

    def enlarge(self, num_columns: int) -> None:
        """Enlarge the caches of keys and values."""
        self._keys, self._values = (_enlarged(old, num_columns) for old in (self._keys, self._values))
        if self._own.has_relative_attention_bias:
            self.bias = _bias(self._own, num_columns)

    def attend(self, hidden: Tensor, num_tokens: int, bias: Tensor | None) -> Tensor:
        """Compute self-attention over `num_tokens` tokens, the last of which is new."""
        x, attention = self._own_norm(hidden), self._own
        self._keys[:, :, num_tokens - 1] = _heads(attention.k(x), attention)[:, :, 0]
        self._values[:, :, num_tokens - 1] = _heads(attention.v(x), attention)[:, :, 0]
        keys, values = self._keys[:, :, :num_tokens], self._values[:, :, :num_tokens]
        return hidden + _attended(attention, x, keys, values, bias)

    def attend_to_source(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Compute cross-attention over the tokens of the sources."""
        x = self._cross_norm(hidden)
        return hidden + _attended(self._cross, x, self._source_keys, self._source_values, mask)

    def feed_forward(self, hidden: Tensor) -> Tensor:
        return hidden + self._dense(self._feed_forward_norm(hidden))  # type: ignore[no-any-return]


def has_steps(model: Any) -> bool:
    """Return whether `T5Steps` can compute the decoder's layers."""
    blocks = getattr(model.get_decoder(), "block", ())
    names = {type(block).__name__ for block in blocks}
    return bool(names) and names <= {"T5Block", "MT5Block", "UMT5Block"}


def _attended(attention: Any, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    queries = _heads(attention.q(x), attention)
    states = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=1.0)
    return attention.o(states.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def _heads(x: Tensor, attention: Any) -> Tensor:
    """Split the heads, [lines, len, heads · size] → [lines, heads, len, size]."""
    heads: Tensor = x.unflatten(2, (-1, attention.key_value_proj_dim)).transpose(1, 2)
    return heads


def _bias(attention: Any, num_columns: int) -> Tensor:
    """Return the position bias of each column for a query in the last column, [1, heads, 1, columns]."""
    device = attention.relative_attention_bias.weight.device
    # For all pairs: the name of the argument for a single query depends on transformers' version.
    bias: Tensor = attention.compute_bias(num_columns, num_columns, device)
    return bias[:, :, -1:].contiguous()


def _enlarged(old: Tensor, num_columns: int) -> Tensor:
    new = old.new_zeros((*old.shape[:2], num_columns, old.shape[3]))
    new[:, :, : old.shape[2]] = old
    return new
