"""The sizes of an encoder-decoder, independent of their names in its config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a model; pairs are those of the encoder and the decoder.

    Args:
        vocab_size: number of tokens.
        d_model: width of the hidden states between layers.
        num_layers, num_heads: numbers in each stack.
        d_head: width of an attention head.
        d_ff: width of the feed-forward.
        num_positions: maximum number of tokens in a row; None if positions are relative.
    """

    vocab_size: int
    d_model: int
    num_layers: tuple[int, int]
    num_heads: tuple[int, int]
    d_head: tuple[int, int]
    d_ff: tuple[int, int]
    num_positions: int | None = None

    @property
    def d_attention(self) -> tuple[int, int]:
        """Width of all heads together."""
        return self.num_heads[0] * self.d_head[0], self.num_heads[1] * self.d_head[1]

    @property
    def widest(self) -> int:
        """Maximum width of a layer's states."""
        return max(*self.d_ff, *self.d_attention)

    @property
    def num_weights(self) -> int:
        """Estimated number of weights: two embeddings, and attention and feed-forward of each layer."""
        total = 2 * self.vocab_size * self.d_model
        for layers, inner, d_ff, attentions in zip(
            self.num_layers, self.d_attention, self.d_ff, (1, 2), strict=True
        ):
            total += layers * self.d_model * (4 * attentions * inner + 3 * d_ff)
        return total
