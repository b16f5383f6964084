"""The frozen base's own dropout, drawn from each experiment's seed like all other randomness.

It is off unless a recipe sets `training.base_dropout`. The stock Trainer trains with the dropout of the
model's config, which readers of LoRA papers do not expect; `recipes/article.yaml` keeps that dropout.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from loraloom.architectures.family import Family
from loraloom.bank.linear import AdapterPass
from loraloom.base.current_pass import CurrentPass
from loraloom.base.loading import Base
from loraloom.data.batches import Segment, Side
from loraloom.data.ownership import Draws, Rows, draw_kept

ATTENTION = "loraloom_dropout"


@dataclass(frozen=True)
class _AttentionDropout:
    """Dropout in the attention modules of one base.

    Args:
        names: path of each module in the model.
        family: family of the base; it knows the sides of the queries and keys of each attention module.
        current_pass: the current pass of the base.
        p: dropout probability.
    """

    names: WeakKeyDictionary[nn.Module, str]
    family: Family
    current_pass: CurrentPass[AdapterPass]
    p: float


_DROPOUT_OF: WeakKeyDictionary[nn.Module, _AttentionDropout] = WeakKeyDictionary()


class BaseDropout(nn.Module):
    """A replacement for an `nn.Dropout` of the base; it does nothing unless a pass with draws is open.

    Args:
        p: dropout probability.
        name: path of the module in the model.
        side: side that the tokens of its input belong to.
        is_in_layer: whether the module is part of a layer, and so is used only once per pass.
        current_pass: the current pass of the base.
    """

    def __init__(
        self, p: float, name: str, side: Side, is_in_layer: bool, current_pass: CurrentPass[AdapterPass]
    ) -> None:
        super().__init__()
        self.p = p
        self.name = name
        self.side = side
        self.is_in_layer = is_in_layer
        self.current_pass = current_pass

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of each adapter's rows, [rows, len, features] → the same shape."""
        running = self.current_pass.get()
        if running is None or running.draws is None or not isinstance(running.rows, Rows):
            return x
        masks, use = [], self._use(running)
        for slot, start, stop in running.rows.spans(x.shape[0], self.name):
            shape = torch.Size((stop - start, *x.shape[1:]))
            if slot is None:
                masks.append(x.new_ones(shape))
            else:
                masks.append(running.draws.token_mask(slot, use, self.side, self.p, shape, like=x))
        return x * torch.cat(masks)

    def _use(self, running: AdapterPass) -> str:
        """Return the name that a mask is drawn for: the module's path, and outside layers a use number.

        A stack uses one module twice, for its embeddings and for its output, and each use has a mask of its
        own. A module of a layer is used once per pass; a recomputed layer uses it again, with the same mask.
        """
        return self.name if self.is_in_layer else f"{self.name}#{running.count_use(self.name)}"


def attention_mask(
    draws: Draws, slot: str, name: str, sides: tuple[Side, Side], p: float, like: Tensor
) -> Tensor:
    """Draw a dropout mask for the attention weights of one adapter's rows.

    Args:
        sides: sides that the tokens of the queries and of the keys belong to.
        like: the attention weights, [rows, heads, queries, keys].

    Returns:
        A mask of the shape of `like`: 0 or 1 / (1 - p); 0 if a query and a key belong to different examples.
    """
    generator = draws.generator(slot, name, like.device)
    if own := draws.slices.get(slot):  # skip the draws of earlier examples
        for lengths in list(zip(*(own.lengths[side] for side in sides), strict=True))[: own.first]:
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
def base_dropout(base: Base, p: float) -> Any:
    """Apply dropout with probability `p` inside the base, in passes that have draws.

    Dropout applies where transformers' T5 has it: to embeddings, attention weights, feed-forward activations
    and the output of every sub-layer.
    """
    if p == 0:
        yield
        return
    model, family = base.model, base.family
    assert not family.without_base_dropout, "recipe_limits.py refuses it"
    replaced: list[tuple[nn.Module, str, nn.Module]] = []
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Dropout):
            parent_path, _, attribute = path.rpartition(".")
            parent = model.get_submodule(parent_path)
            dropout = BaseDropout(p, path, family.side_of(path), family.is_in_layer(path), base.current_pass)
            setattr(parent, attribute, dropout)
            replaced.append((parent, attribute, module))
    names = WeakKeyDictionary((module, path) for path, module in model.named_modules())
    # transformers 5.17 sets this only in the model, not in its two stacks, which have separate configs.
    stacks = [model, model.get_encoder(), model.get_decoder()]
    usual = [stack.config._attn_implementation for stack in stacks]
    own = _AttentionDropout(names, family, base.current_pass, p)
    _DROPOUT_OF.update(dict.fromkeys(names, own))
    for stack in stacks:
        stack.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        for stack, implementation in zip(stacks, usual, strict=True):
            stack.set_attn_implementation(implementation)
        for module in names:
            _DROPOUT_OF.pop(module, None)
        for parent, attribute, module in replaced:
            setattr(parent, attribute, module)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask_: Tensor | None,
    scaling: float = 1.0,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Compute attention, with a position bias if the family has one, and our own dropout on its weights."""
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
    dropout = _DROPOUT_OF[module]
    running = dropout.current_pass.get()
    if running is not None and isinstance(running.rows, Rows) and running.draws is not None:
        name = dropout.names[module]
        sides = dropout.family.attention_sides(name)
        mask = _mask_of_all_spans(running.rows, running.draws, name, sides, dropout.p, weights)
        weights = weights * mask
    return (weights @ value).transpose(1, 2).contiguous(), weights


# One name for the whole process; differences between bases are looked up by module.
AttentionInterface.register(ATTENTION, _attend)
# Without a mask function of its own, an attention implementation gets no mask (transformers.masking_utils).
AttentionMaskInterface.register(ATTENTION, eager_mask)


def _mask_of_all_spans(
    rows: Rows, draws: Draws, name: str, sides: tuple[Side, Side], p: float, like: Tensor
) -> Tensor:
    masks = [
        torch.ones_like(like[start:stop])
        if slot is None
        else attention_mask(draws, slot, name, sides, p, like[start:stop])
        for slot, start, stop in rows.spans(like.shape[0], name)
    ]
    return torch.cat(masks)
