"""The most probable next token, chosen from all logits or from the few candidates that an int8 screen leaves.

For each token, greedy decoding computes the logits of the whole vocabulary, and uses only the largest one.
The screen computes these logits in int8, which takes a CPU with VNNI about half as long as in bfloat16, and
bounds their error. With W the output head, h a state, and q(·) the int8 approximation of either,

    |W_v · h − q(W_v) · q(h)|  ≤  ‖W_v − q(W_v)‖ ‖h‖ + ‖q(W_v)‖ ‖h − q(h)‖        (Cauchy–Schwarz, twice)

so a token whose upper bound is below another one's lower bound cannot have the largest logit. Of 250,112
tokens, about twenty remain; their logits are computed from W itself, as `AllLogits` does for all tokens.
`Screen` and `AllLogits` choose the same token.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from loraloom.bank.objective import output_head
from loraloom.base.available_memory import free_bytes
from loraloom.base.loading import Base
from loraloom.kernels.output_head import OutputHead, all_logits, finish_logits

TILE_WORDS = 16_384
# Tokens of a block; only the maxima of blocks are kept, and only blocks that can win are searched.
BLOCK_WORDS = 128
ROUNDED_AT_ONCE = 256
ZERO_POINT = 128  # states are stored as uint8, because VNNI multiplies uint8 by int8
# Relative error that float32 may add to scales and norms, with a factor of about a hundred to spare.
FLOAT_SLACK = 1e-5
# Making a screen takes the time that it saves over about a thousand tokens, whatever the head's size.
MIN_TOKENS = 4_096
# Smaller heads are computed in less time than a search for tokens that can win takes.
MIN_WEIGHTS = 2**23
TINY = torch.finfo(torch.float32).tiny
# An int8 for each weight; for each token, its scale in float32 and its zero point in int64.
WEIGHT_BYTES, WORD_BYTES = 1, 4 + 8
# Share of the free memory that a screen may take; the rest is for caches and logits.
USABLE_SHARE = 0.5


class TopToken(Protocol):
    """The interface of the two ways to find the largest logit."""

    def of(self, hidden: Tensor) -> Tensor:
        """Return the index of the largest logit of each row, int64 [rows]; of equal logits, the first.

        Args:
            hidden: the decoder's states, [rows, d].
        """


class AllLogits:
    """Choice of the largest logit after computing all logits; tests compare `Screen` with this class.

    Args:
        head: head of the base.
    """

    def __init__(self, head: OutputHead) -> None:
        self.head = head

    def of(self, hidden: Tensor) -> Tensor:
        """Return the index of the largest logit of each row, int64 [rows]; see `TopToken`."""
        return all_logits(self.head, hidden).argmax(-1)


@dataclass(frozen=True)
class _Tile:
    """The head's rows for consecutive token ids, in int8.

    Args:
        packed: these rows of the head, laid out for oneDNN.
        scales: scale of each token, float32 [tokens].
        zeros: zero point of each token, int64 [tokens]; all 0.
        bias: float32 [tokens]; None if the head has none.
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor | None


class Screen:
    """Choice of the largest logit after computing all logits in int8, and only a few of them exactly.

    A bias is added to the approximate logits. A soft cap is monotone, so it does not change which logit is
    largest, and is applied only to the logits that are computed exactly.

    Args:
        head: head of the base, on a CPU for which `screens_exactly` is true. Its int8 copy takes one byte per
            weight.

    Raises:
        RuntimeError: torch was built without oneDNN.
    """

    def __init__(self, head: OutputHead) -> None:
        self.head = head
        self._version = head.weight._version
        self._tiles: list[_Tile] = []
        losses, norms = [], []
        for first in range(0, len(head.weight), TILE_WORDS):
            weight = head.weight[first : first + TILE_WORDS]
            rounded, scales, loss, norm = _rounded(weight)
            losses.append(_block_maxima(loss[None])[0])
            norms.append(_block_maxima(norm[None])[0])
            bias = head.bias[first : first + TILE_WORDS].float() if head.bias is not None else None
            zeros = torch.zeros(len(weight), dtype=torch.int64)
            self._tiles.append(_Tile(_pack(rounded), scales, zeros, bias))
        self._loss, self._norm = torch.cat(losses), torch.cat(norms)  # [blocks]

    def is_of(self, head: OutputHead) -> bool:
        """Return whether the screen was made from this head, and the weights have not changed since."""
        return self.head.weight is head.weight and self._version == head.weight._version

    def of(self, hidden: Tensor) -> Tensor:
        """Return the index of the largest logit of each row, int64 [rows]; see `TopToken`."""
        scaled = hidden * self.head.scale
        states = scaled.float()
        scales = (states.abs().amax(1, keepdim=True) / 127).clamp_(min=TINY)
        rounded = (states / scales).round_().clamp_(-127, 127)
        stored = (rounded + ZERO_POINT).to(torch.uint8)
        # Logits are in units of `scales`, which do not change their order, until a bias is to be added.
        units = scales if self.head.bias is None else torch.ones_like(scales)
        tiles = [self._tile_logits(tile, stored, scales) for tile in self._tiles]
        peaks = torch.cat([_block_maxima(tile) for tile in tiles], dim=1) * units
        error = self._error(states, states - rounded * scales, peaks)
        if not error.isfinite().all():  # as from states with NaN, for which there is no bound
            return AllLogits(self.head).of(hidden)
        lowest = (peaks - error).amax(1, keepdim=True)
        rows, blocks = (peaks + error >= lowest).nonzero().unbind(1)
        enough = ((lowest[rows, 0] - error[rows, blocks]) / units[rows, 0])[:, None]
        return self._best(scaled, *_words_above(tiles, rows, blocks, enough))

    def _tile_logits(self, tile: _Tile, stored: Tensor, scales: Tensor) -> Tensor:
        products = _product(stored, tile.packed, tile.scales, tile.zeros)
        return products if tile.bias is None else products.mul_(scales).add_(tile.bias)

    def _error(self, states: Tensor, loss: Tensor, peaks: Tensor) -> Tensor:
        """Return an upper bound on the error of the approximate logits in each block, [rows, blocks].

        The error is the distance from the logits of `AllLogits`. It includes their rounding to the head's
        dtype, which can make a smaller logit equal to a larger one.
        """
        norm, lost = (torch.linalg.vector_norm(each, dim=1, keepdim=True) for each in (states, loss))
        error = norm * self._loss + lost * self._norm
        rounding = FLOAT_SLACK + 2 * torch.finfo(self.head.weight.dtype).eps
        summing = (norm + lost) * (self._norm + self._loss) * FLOAT_SLACK
        bound: Tensor = error * (1 + FLOAT_SLACK) + (peaks.abs() + error) * rounding + summing
        return bound

    def _best(self, scaled: Tensor, rows: Tensor, words: Tensor) -> Tensor:
        """Return, for each row, the candidate token with the largest logit; of equal logits, the first.

        Args:
            scaled: states [rows, d], times the head's scale.
            rows, words: row and token id of each candidate, int64 [n].
        """
        vocabulary = len(self.head.weight)
        products = (scaled[rows].float() * self.head.weight[words].float()).sum(1).to(scaled.dtype)
        logits = finish_logits(self.head, products, words)
        best = logits.new_full((len(scaled),), -torch.inf).scatter_reduce_(0, rows, logits, "amax")
        first = torch.where(logits == best[rows], words, vocabulary)
        return words.new_full((len(scaled),), vocabulary).scatter_reduce_(0, rows, first, "amin")


# The screen of each base's head, as long as the head is in memory.
_SCREENS: WeakKeyDictionary[nn.Module, Screen] = WeakKeyDictionary()


def top_token(base: Base, num_tokens: int) -> TopToken:
    """Return a `Screen` if it saves time and fits in memory, otherwise `AllLogits`.

    Args:
        base: the model.
        num_tokens: maximum number of tokens that will be chosen.
    """
    head = output_head(base)
    if (screen := _SCREENS.get(base.head)) is not None and screen.is_of(head):
        return screen
    needed = screen_bytes(base, num_tokens)
    if not needed or needed > USABLE_SHARE * free_bytes(base.device):
        return AllLogits(head)
    screen = _SCREENS[base.head] = Screen(head)
    return screen


def screen_bytes(base: Base, num_tokens: int) -> int:
    """Return the size, in bytes, of a screen of this base; 0 if it cannot be used or would not save time.

    Args:
        base: the model.
        num_tokens: maximum number of tokens that will be chosen.
    """
    words, features = base.head.weight.shape
    is_worthwhile = num_tokens >= MIN_TOKENS and words * features >= MIN_WEIGHTS
    if not is_worthwhile or base.is_sharded or base.device.type != "cpu" or not screens_exactly():
        return 0
    return int(words * (features * WEIGHT_BYTES + WORD_BYTES))


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Round rows of the head to int8, in blocks that are small enough to stay in the cache.

    Returns:
        The rounded rows; and for each row its scale, the norm of its rounding error, and the norm of the
        rounded row times its scale.
    """
    rounded = torch.empty(weight.shape, dtype=torch.int8)
    scales, loss, norm = (torch.empty(len(weight)) for _ in range(3))
    for first in range(0, len(weight), ROUNDED_AT_ONCE):
        part = slice(first, first + ROUNDED_AT_ONCE)
        own = weight[part].float()
        scales[part] = (torch.linalg.vector_norm(own, torch.inf, dim=1) / 127).clamp_(min=TINY)
        ratio = own / scales[part, None]
        whole = ratio.round().clamp_(-127, 127)
        rounded[part] = whole.to(torch.int8)
        loss[part] = torch.linalg.vector_norm(ratio.sub_(whole), dim=1) * scales[part]
        norm[part] = torch.linalg.vector_norm(whole, dim=1) * scales[part]
    return rounded, scales, loss, norm


def _words_above(tiles: list[Tensor], rows: Tensor, blocks: Tensor, enough: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and token id of the approximate logits that reach the threshold of their block.

    Args:
        tiles: approximate logits, [rows, tokens] each.
        rows, blocks: row and number of each block to search, int64 [n].
        enough: the threshold of each of these blocks, float32 [n, 1].
    """
    found_rows, found_words = [], []
    within = torch.arange(BLOCK_WORDS)
    for number, tile in enumerate(tiles):
        first = number * TILE_WORDS
        here = (blocks * BLOCK_WORDS >= first) & (blocks * BLOCK_WORDS < first + TILE_WORDS)
        if not here.any():
            continue
        row = rows[here]
        columns = blocks[here][:, None] * BLOCK_WORDS - first + within
        inside = columns.clamp(max=tile.shape[1] - 1)  # the last block of the vocabulary may be smaller
        chosen, offset = (
            ((tile[row[:, None], inside] >= enough[here]) & (inside == columns)).nonzero().unbind(1)
        )
        found_rows.append(row[chosen])
        found_words.append(columns[chosen, offset] + first)
    return torch.cat(found_rows), torch.cat(found_words)


def _block_maxima(values: Tensor) -> Tensor:
    """Return the largest value in each block of adjacent tokens, [rows, tokens] → [rows, blocks]."""
    rows, words = values.shape
    whole = words // BLOCK_WORDS * BLOCK_WORDS
    maxima = values[:, :whole].view(rows, -1, BLOCK_WORDS).amax(2)
    if whole == words:
        return maxima
    return torch.cat([maxima, values[:, whole:].amax(1, keepdim=True)], dim=1)


def _pack(words: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(words.contiguous(), None)  # type: ignore[no-any-return]


def _product(stored: Tensor, packed: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """Compute (stored - 128) · packed, times the scale of each token, float32 [rows, tokens]."""
    return torch.ops.onednn.qlinear_pointwise(  # type: ignore[no-any-return]
        stored, 1.0, ZERO_POINT, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


@functools.cache
def screens_exactly() -> bool:
    """Return whether int8 products are exact on this CPU, with this version of torch.

    Without VNNI, pairs of products are added in 16 bits, in which large sums saturate.
    """
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-127, 128, (64, 512), generator=generator, dtype=torch.int8)
    words[:2] = torch.tensor([[127], [-127]], dtype=torch.int8)
    stored = torch.randint(0, 256, (3, 512), generator=generator, dtype=torch.uint8)
    stored[0], stored[1] = 255, 1
    exact = (stored.long() - ZERO_POINT) @ words.long().t()
    try:
        found = _product(stored, _pack(words), torch.ones(64), torch.zeros(64, dtype=torch.int64))
    except (RuntimeError, AttributeError, NotImplementedError):  # not built with oneDNN
        return False
    return bool((found == exact).all())
