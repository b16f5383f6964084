"""The second product of the objective's sweep without the columns whose probability does not matter.

In a trained model a few hundred of 250,000 tokens share nearly all probability, and the others take as much
of the product Σ_v softmax(W h)_v W_v as these (skipping them: Wijmans et al., 2024, "Cut Your Losses",
https://arxiv.org/abs/2411.09009). Every logit is computed, so losses are exact and the probability that is
left out is known: of each row at most `OMITTED`, which is less than the rounding of the weights to bfloat16.
Where few columns do not suffice, the product is computed in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

OMITTED = 2**-10
# Columns whose probability is above one of these in any row; the first that leaves out little enough counts.
LEAST = (2**-14, 2**-17, 2**-20, 2**-23)
MOST_COLUMNS = 1 / 8  # of a tile; a product of more is not faster than that of all
# A row is flat in a tile if more than this share of columns, all like the largest, would have its probability.
FLAT = 1 / 64


def omits_columns(weight: Tensor) -> bool:
    """Return whether products with a head may leave out columns: in half precision on a processor."""
    return weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float16)


def sparse_product(weights: Tensor, sums: Tensor, total: Tensor, tile: Tensor, vocabulary: int) -> Tensor:
    """Compute weights @ tile, leaving out what does not matter.

    Args:
        weights: float32 [n, columns], exp(logit - peak) of a tile.
        sums: float32 [n], their sums.
        total: float32 [n], the same of all tiles so far.
        tile: rows of the head, [columns, d].
        vocabulary: number of rows of the whole head.

    Returns:
        [n, d], in float32 or in the dtype of the tile.
    """
    columns = weights.shape[1]
    # Half of what may be left out is in proportion to a tile's probability, half to its size.
    allowed = OMITTED / 2 * (sums + total * (columns / vocabulary))
    matters = sums > allowed
    if not bool(matters.any()):
        return torch.zeros(len(weights), tile.shape[1])
    if bool((matters & (sums > weights.amax(1) * (columns * FLAT))).any()):
        return weights.to(tile.dtype) @ tile
    largest = (weights / total[:, None]).amax(0)
    for least in LEAST:
        chosen = (largest > least).nonzero()[:, 0]
        if len(chosen) > columns * MOST_COLUMNS:
            break
        own = weights[:, chosen]
        if bool((sums - own.sum(1) <= allowed).all()):
            return own @ tile[chosen].float()  # in float32, see updates/low_ranks.py
    return weights.to(tile.dtype) @ tile
