"""A learning rate to start with on a T5-like base, from the rule in docs/learning_rate.md.

`python -m benchmarks.learning_rate --docs docs` fits the rule and writes that page; a test verifies that the
constants here agree with it.
"""

from __future__ import annotations

import math

from loraloom.text.message import Message

WIDTH = 256
RATE = 0.0024  # at WIDTH, with what `init` writes: r 16, lora_alpha 32, all linears, batches of 8
PER_WIDTH = 0.75  # what the best rate is multiplied by if the width doubles


def suggested_rate(width: int) -> float:
    """Return the rule's learning rate, to two significant digits.

    Args:
        width: d_model of the base. The rule was fitted at widths 64 to 256, but below 256 it is not used:
            the rate for 256 is returned.
    """
    return float(f"{RATE * PER_WIDTH ** math.log2(max(width, WIDTH) / WIDTH):.1e}")


def rate_remark(width: int) -> str:
    """Return a remark that states which rule a learning rate comes from."""
    return Message(
        "By a rule for T5-like models, from d_model {width} (docs/learning_rate.md); "
        "`loraloom check RECIPE --find-lr` tries eight rates on your rows.",
        width=width,
    )
