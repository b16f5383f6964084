"""The place of a linear in an encoder-decoder, and the linears whose zero weights block its gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from loraloom.data.batches import Side

Stack = Literal["encoder", "decoder"]
Part = Literal["encoder", "decoder", "cross"]
Sublayer = Literal["self", "cross", "feed-forward"]
Role = Literal["q", "k", "v", "o", "in", "gate", "out"]
# The linears that multiply a linear's input or output within its sublayer; their zeros silence it.
FACTORS: Mapping[Role, tuple[Role, ...]] = {
    "q": ("k", "v", "o"),
    "k": ("q", "v", "o"),
    "v": ("o",),
    "o": ("v",),
    "in": ("gate", "out"),
    "gate": ("in", "out"),
    "out": ("in", "gate"),
}


class Place(NamedTuple):
    """The location and purpose of a linear in a model.

    Args:
        stack: the stack that its layer belongs to.
        layer: number of the layer, from 0.
        sublayer: `cross` is the decoder's attention to the source.
        role: what the linear computes.
    """

    stack: Stack
    layer: int
    sublayer: Sublayer
    role: Role

    @property
    def part(self) -> Part:
        """The part of the model: the stack, or `cross` for cross-attention."""
        return "cross" if self.sublayer == "cross" else self.stack

    @property
    def side(self) -> Side:
        """The side of its input tokens; k and v of cross-attention read the encoder's output."""
        reads_source = self.stack == "encoder" or (self.sublayer == "cross" and self.role in ("k", "v"))
        return "source" if reads_source else "target"
