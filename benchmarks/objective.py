"""The objective beside torch's cross-entropy on full logits: loss and gradient, the ratio printed.

python -m benchmarks.objective [--rows 195] [--vocabulary 250112] [--dtype float32]
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.rounds import options_of, ratio
from loraloom.bank.objective import token_losses
from loraloom.bank.output_head import OutputHead


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--rows", type=int, default=195)
    parser.add_argument("--vocabulary", type=int, default=250_112)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    weight = torch.randn(options.vocabulary, options.width, dtype=dtype) * options.width**-0.5
    hidden = torch.randn(options.rows, options.width, dtype=dtype, requires_grad=True)
    labels = torch.randint(options.vocabulary, (options.rows,))
    head = OutputHead(weight)
    ours = timed(lambda: token_losses(hidden, labels, head).sum().backward(), options.rounds)
    plain = timed(
        lambda: F.cross_entropy((hidden @ weight.t()).float(), labels, reduction="sum").backward(),
        options.rounds,
    )
    print(f"{options.dtype}, {options.rows} rows, {torch.get_num_threads()} threads")
    print(f"full logits / tiles: {ratio(plain, ours)}")


def timed(work: Callable[[], None], rounds: int) -> list[float]:
    """Seconds of each round, after one that does not count."""
    seconds = []
    for number in range(rounds + 1):
        begun = time.perf_counter()
        work()
        if number:
            seconds.append(time.perf_counter() - begun)
    return seconds


if __name__ == "__main__":
    main()
