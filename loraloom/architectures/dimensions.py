"""The sizes of an encoder-decoder, independent of their names in its config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a model; a pair holds the encoder's value and the decoder's.

    Args:
        vocab_size: number of tokens in the vocabulary.
        d_model: width of the hidden states between layers, in the decoder if the two stacks differ.
        num_layers, num_heads: number of layers, and of attention heads in a layer, for each stack.
        d_head: width of an attention head.
        d_ff: inner width of the feed-forward sublayer.
        num_positions: maximum number of tokens in a row; None if positions are relative.
        num_key_value_heads: number of key and value heads; None if each query head has its own.
        d_encoder: width of the encoder's hidden states, if it may differ from the decoder's; otherwise None.
    """

    vocab_size: int
    d_model: int
    num_layers: tuple[int, int]
    num_heads: tuple[int, int]
    d_head: tuple[int, int]
    d_ff: tuple[int, int]
    num_positions: int | None = None
    num_key_value_heads: tuple[int, int] | None = None
    d_encoder: int | None = None

    @property
    def d_attention(self) -> tuple[int, int]:
        """Total width of the attention heads of a layer, for each stack."""
        return self.num_heads[0] * self.d_head[0], self.num_heads[1] * self.d_head[1]

    @property
    def d_key_value(self) -> tuple[int, int]:
        """Total width of the key heads of a layer, which is also that of its value heads, for each stack."""
        heads = self.num_key_value_heads or self.num_heads
        return heads[0] * self.d_head[0], heads[1] * self.d_head[1]

    @property
    def d_stream(self) -> tuple[int, int]:
        """Width of the hidden states between the layers of each stack."""
        return self.d_encoder or self.d_model, self.d_model

    @property
    def widest(self) -> int:
        """Width of the widest states inside any layer: in its feed-forward, or all its heads together."""
        return max(*self.d_ff, *self.d_attention)

    @property
    def num_weights(self) -> int:
        """Estimated number of weights: both embeddings, and the attention and feed-forward of every layer."""
        total = self.vocab_size * sum(self.d_stream)
        for layers, width, queries, keys, d_ff, attentions in zip(
            self.num_layers, self.d_stream, self.d_attention, self.d_key_value, self.d_ff, (1, 2), strict=True
        ):
            total += layers * width * (2 * attentions * (queries + keys) + 3 * d_ff)
        return total
