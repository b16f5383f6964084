"""The objective beside torch's cross-entropy on full logits: loss and gradient, ratios and errors printed.

    python -m benchmarks.objective [--rows 195] [--vocabulary 250112] [--dtype float32]

*Full sweep* is what a head with a bias takes, here one of zeros. Errors are those of a smaller head in
bfloat16, beside float64, for hidden states ever nearer to their label's row: a model surer of its labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.rounds import options_of, ratio
from loraloom.kernels.cross_entropy import token_losses
from loraloom.kernels.output_head import OutputHead


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
    head, biased = OutputHead(weight), OutputHead(weight, bias=torch.zeros(options.vocabulary))
    ours = timed(lambda: token_losses(hidden, labels, head).sum().backward(), options.rounds)
    full = timed(lambda: token_losses(hidden, labels, biased).sum().backward(), options.rounds)
    plain = timed(
        lambda: F.cross_entropy((hidden @ weight.t()).float(), labels, reduction="sum").backward(),
        options.rounds,
    )
    print(f"{options.dtype}, {options.rows} rows, {torch.get_num_threads()} threads")
    print(f"full logits / tiles: {ratio(plain, ours)}")
    print(f"full sweep / tiles: {ratio(full, ours)}")
    for nearness in (0.25, 0.5, 1.0):
        print_errors(nearness)


def print_errors(nearness: float) -> None:
    """Print the mean error of losses, and the relative error of their gradients, of both sweeps."""
    generator, rows, vocabulary, width = torch.Generator().manual_seed(0), 64, 2_000, 256
    weight = (torch.randn(vocabulary, width, generator=generator) * 0.3).bfloat16()
    labels = torch.randint(0, vocabulary, (rows,), generator=generator)
    noise = torch.randn(rows, width, generator=generator) * 0.3
    hidden = (weight[labels] * nearness + noise).bfloat16()
    states = hidden.double().requires_grad_()
    exact = F.cross_entropy(states @ weight.double().t(), labels, reduction="none")
    (wanted,) = torch.autograd.grad(exact.sum(), states)
    found = [f"mean loss {float(exact.mean()):.1e}"]
    for name, bias in (("tiles", None), ("full sweep", torch.zeros(vocabulary))):
        own = hidden.clone().requires_grad_()
        losses = token_losses(own, labels, OutputHead(weight, bias=bias))
        (gradient,) = torch.autograd.grad(losses.sum(), own)
        error = float((losses.double() - exact).abs().mean())
        relative = float((gradient.double() - wanted).norm() / wanted.norm())
        found.append(f"{name}: loss off by {error:.0e}, gradient by {relative:.1%}")
    print("; ".join(found))


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
