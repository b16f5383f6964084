"""The learning rate to begin with on a T5-like base, by the rule of docs/learning_rate.md.

Source: `python -m benchmarks.learning_rate --docs docs`, which fits it. A test compares these figures
with the page.
"""

from __future__ import annotations

import math

from loraloom.text.message import Message

WIDTH, RANK, BATCH = 256, 16, 8
RATE = 0.0024  # there, on all linears, with lora_alpha = 2 r
# What the best rate is multiplied by if one of these doubles, and on q and v alone.
PER_WIDTH, PER_RANK, PER_BATCH, ATTENTION_ALONE = 0.75, 0.71, 1.16, 1.31


def suggested_rate(
    width: int, rank: int = RANK, batch: int = BATCH, *, is_attention_alone: bool = False
) -> float:
    """Return the rule's learning rate, to two digits.

    Args:
        width: d_model. The rule was fitted at 64 to 256; below 256, the rate at 256 is returned.
        rank: of the adapter, with lora_alpha twice that.
        batch: examples in a step.
        is_attention_alone: whether only q and v are adapted.
    """
    factor = PER_WIDTH ** math.log2(max(width, WIDTH) / WIDTH)
    factor *= PER_RANK ** math.log2(rank / RANK) * PER_BATCH ** math.log2(batch / BATCH)
    factor *= ATTENTION_ALONE if is_attention_alone else 1.0
    return float(f"{RATE * factor:.1e}")


def rate_remark(width: int) -> str:
    """Say where such a learning rate is from."""
    return Message(
        "By a rule for T5-like models, from d_model {width} (docs/learning_rate.md); "
        "`loraloom check RECIPE --find-lr` tries eight on your rows.",
        width=width,
    )
