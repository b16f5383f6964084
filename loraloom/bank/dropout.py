"""The frozen base's own dropout, drawn from each experiment's seed like everything else.

Off unless a recipe sets `training.base_dropout`: the stock Trainer trains with the dropout of the
model's config, which a reader of LoRA papers does not expect and the article's recipe had.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from loraloom.architectures.family import Family
from loraloom.bank.ownership import Ambient, Draws, Rows, draw_kept
from loraloom.base.loading import Base
from loraloom.data.batches import Segment, Side

ATTENTION = "loraloom_dropout"


class BaseDropout(nn.Module):
    """Stands where an `nn.Dropout` of the base stood; without draws it does nothing.

    Args:
        p: the probability to drop.
        name: its path in the model.
        side: whose tokens its input has.
        is_in_layer: whether it is used once a pass.
        ambient: the bank's.
    """

    def __init__(self, p: float, name: str, side: Side, is_in_layer: bool, ambient: Ambient) -> None:
        super().__init__()
        self.p = p
        self.name = name
        self.side = side
        self.is_in_layer = is_in_layer
        self.ambient = ambient
        self._draws: Draws | None = None
        self._num_uses = 0

    def forward(self, x: Tensor) -> Tensor:
        """[rows, len, features] → the same."""
        rows = self.ambient.rows
        if not isinstance(rows, Rows) or rows.draws is None:
            return x
        masks, use = [], self._use(rows.draws)
        for slot, start, stop in rows.spans(x.shape[0], self.name):
            shape = torch.Size((stop - start, *x.shape[1:]))
            if slot is None:
                masks.append(x.new_ones(shape))
            else:
                masks.append(rows.draws.token_mask(slot, use, self.side, self.p, shape, like=x))
        return x * torch.cat(masks)

    def _use(self, draws: Draws) -> str:
        """What this mask is drawn for: a stack drops its embeddings and its output with one module.

        A layer's modules are used once a pass, and again when it is recomputed: for the same mask.
        """
        if self.is_in_layer:
            return self.name
        self._num_uses = self._num_uses + 1 if draws is self._draws else 0
        self._draws = draws
        return f"{self.name}#{self._num_uses}"


def attention_mask(
    draws: Draws, slot: str, name: str, sides: tuple[Side, Side], p: float, like: Tensor
) -> Tensor:
    """A dropout mask for the attention weights of one adapter's rows.

    Args:
        sides: whose tokens the queries and the keys are.
        like: [rows, heads, queries, keys].

    Returns:
        The same shape; 0 where a query and a key belong to different examples.
    """
    generator = draws.generator(slot, name, like.device)
    if excerpt := draws.excerpts.get(slot):  # what was drawn for the examples before is passed over
        for lengths in list(zip(*(excerpt.lengths[side] for side in sides), strict=True))[: excerpt.first]:
            draw_kept((like.shape[1], *lengths), p, generator)
    mask = torch.zeros_like(like)
    pairs: zip[tuple[Segment, Segment]] = zip(
        draws.segments[sides[0]][slot], draws.segments[sides[1]][slot], strict=True
    )
    for queries, keys in pairs:
        drawn = draw_kept((like.shape[1], queries.length, keys.length), p, generator)
        at_queries = slice(queries.start, queries.start + queries.length)
        at_keys = slice(keys.start, keys.start + keys.length)
        mask[queries.row, :, at_queries, at_keys] = drawn.to(like.dtype) / (1 - p)
    return mask


@contextmanager
def base_dropout(base: Base, ambient: Ambient, p: float) -> Any:
    """While it lasts, the base drops with probability `p` in passes that have draws.

    Source of the places: transformers' T5, which drops embeddings, attention weights, feed-forward
    activations and every sub-layer's output.
    """
    if p == 0:
        yield
        return
    model, family = base.model, base.family
    assert family.has_base_dropout, (
        f"{family.title} draws no dropout of its own"
    )  # recipe_limits.py refuses it
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Dropout):
            parent_path, _, attribute = path.rpartition(".")
            parent = model.get_submodule(parent_path)
            dropout = BaseDropout(p, path, family.side_of(path), family.is_in_layer(path), ambient)
            setattr(parent, attribute, dropout)
            replaced.append((parent, attribute, module))
    names = {module: path for path, module in model.named_modules()}
    # transformers 5.17 tells the model alone, not its two stacks, which have configs of their own.
    stacks = [model, model.get_encoder(), model.get_decoder()]
    usual = [stack.config._attn_implementation for stack in stacks]
    AttentionInterface.register(ATTENTION, _attention(names, family, ambient, p))
    # An attention without masks of its own gets none (transformers.masking_utils), padding unmasked.
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    for stack in stacks:
        stack.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        for stack, own in zip(stacks, usual, strict=True):
            stack.set_attn_implementation(own)
        for parent, attribute, module in replaced:
            setattr(parent, attribute, module)


def _attention(
    names: dict[nn.Module, str], family: Family, ambient: Ambient, p: float
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Attention, with a position bias where the family has one, and our own dropout on its weights."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask_: Tensor | None,
        scaling: float = 1.0,
        position_bias: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        scores = query @ key.transpose(2, 3) * scaling
        if position_bias is not None:
            scores = scores + position_bias
        if attention_mask_ is not None:
            lowest = torch.finfo(scores.dtype).min
            scores = (
                scores.masked_fill(~attention_mask_, lowest)
                if attention_mask_.dtype == torch.bool
                else (scores + attention_mask_)
            )
        weights = scores.softmax(-1)
        rows = ambient.rows
        if isinstance(rows, Rows) and rows.draws is not None:
            name = names[module]
            sides = family.attention_sides(name)
            weights = weights * _mask_of_all_shares(rows, rows.draws, name, sides, p, weights)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    return attend


def _mask_of_all_shares(
    rows: Rows, draws: Draws, name: str, sides: tuple[Side, Side], p: float, like: Tensor
) -> Tensor:
    masks = [
        torch.ones_like(like[start:stop])
        if slot is None
        else attention_mask(draws, slot, name, sides, p, like[start:stop])
        for slot, start, stop in rows.spans(like.shape[0], name)
    ]
    return torch.cat(masks)
