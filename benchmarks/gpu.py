"""mt0-large's shape on one GPU beside the stock libraries: one table, one JSON; under eight minutes.

    python -m benchmarks.gpu [--out gpu.json] [--profile DIR]     # an H100 or alike
    python -m benchmarks.gpu --smoke                              # a tiny model, seconds, on any processor

The model is random, in bfloat16; a pair is 30 tokens of source and 30 of target; dropout is LoRA's 0.05 on
both sides and the base's is off. *Stock* is a transformers model under PEFT in a plain step: dynamic padding,
SDPA, AdamW fused, the faster of PEFT's two ways to compute (adapters in float32, or under autocast as the
Trainer's bf16 does). *Ours* is `take_step`, all that a training does in a step but its log. Both see the same
rows. At the start, without dropout and from the same A and B, losses and gradient norms of both must agree.

Rounds of both sides are interleaved and a row's figures are medians. The roofline fraction is the arithmetic
that the method needs, 4 FLOP a weight and token of the body, 4·d·V a label, and attention, over the time a
step took, against the rate at which the model's own products ran at that number of tokens in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.counting import counting_syncs, gemm_rate, profile, step_flops
from benchmarks.rounds import options_of
from benchmarks.sides import (
    BATCH,
    DROPOUT,
    Machine,
    Ours,
    Stock,
    check_equal,
    make_base,
    random_model,
)
from loraloom.data.encoding import EncodedSet
from tests.tiny import MT0_LARGE_SHAPE, SMALL

PAIR_TOKENS = 30
AIMS = {"alone": 3.0, "bank of 8": 6.0, "bank of 32": 8.0}
AIM_EXAMPLES = 2_500


@dataclass
class Row:
    """One line of the table.

    Args:
        name: of the side and the job.
        adapters, batch: trained together, rows of each in a step.
        examples_per_second: the median of the rounds; lowest and highest beside it.
        step_ms: the median.
        over_stock: examples a second over those of a stock run at `BATCH`.
        roofline: see the head of this file.
        gemm_tflops: the rate it is measured against.
        syncs, kernels: of one step; None where they were not counted.
        busy_ms: of kernels in a step, by the profiler; what remains is the host's.
        peak_gib: allocated at the most, the base included.
    """

    name: str
    adapters: int
    batch: int
    examples_per_second: float
    lowest: float
    highest: float
    step_ms: float
    over_stock: float | None = None
    roofline: float | None = None
    gemm_tflops: float | None = None
    syncs: int | None = None
    kernels: int | None = None
    busy_ms: float | None = None
    peak_gib: float | None = None
    notes: list[str] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--profile", type=Path, help="a folder for tables of kernels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, nargs="*", default=[128, 768], help="batches of one adapter")
    parser.add_argument("--banks", type=int, nargs="*", default=[1, 8, 32], help="adapters of batch five")
    parser.add_argument("--ours-only", action="store_true", help="for tuning: no stock side, no comparison")
    parser.add_argument("--dropout", type=float, default=DROPOUT)
    options = parser.parse_args()
    if options.smoke:
        options.large, options.banks, options.rounds = [8], [1, 3], 2
    machine, rows = machine_of(options), list[Row]()
    try:
        measure(machine, options, rows)
    finally:  # what was measured until it was stopped
        print_table(machine, rows)
        if options.out:
            found = {"machine": machine.facts(), "rows": [asdict(row) for row in rows]}
            options.out.write_text(json.dumps(found, indent=1) + "\n")


def machine_of(options: argparse.Namespace) -> Machine:
    """A GPU in bfloat16, or a trial on the processor."""
    is_gpu = torch.cuda.is_available() and not options.smoke
    shape = (
        {**SMALL, "vocab_size": 512, "feed_forward_proj": "gated-gelu"} if options.smoke else MT0_LARGE_SHAPE
    )
    dtype = torch.bfloat16 if is_gpu else torch.float32
    return Machine(torch.device("cuda" if is_gpu else "cpu"), dtype, shape)


def random_pairs(machine: Machine, batch: int) -> EncodedSet:
    """Make rows of 30 source and 30 target tokens, in whole batches, so that the last one is not smaller."""
    number = max(1, (1_000 if machine.is_gpu else 60) // batch) * batch
    generator = torch.Generator().manual_seed(1)
    shape = (number, 2, PAIR_TOKENS)
    tokens = torch.randint(3, machine.shape["vocab_size"], shape, generator=generator)
    tokens[..., -1] = 1
    return EncodedSet(tokens[:, 0].tolist(), tokens[:, 1].tolist())


def rounds_of(sides: dict[str, Ours | Stock], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds a step of each side, round by round, the sides in turn."""
    steps = {}
    for name, side in sides.items():
        for _ in range(3):  # a static pass runs, is recorded, is replayed
            side.step()
        own = _timed(side, 2)
        steps[name] = max(1, min(50, int(seconds / own)))
    return {
        name: [own[name] for own in found]
        for found in [[{n: _timed(s, steps[n]) for n, s in sides.items()} for _ in range(rounds)]]
        for name in sides
    }


def _timed(side: Ours | Stock, steps: int) -> float:
    side.machine.wait()
    begun = time.perf_counter()
    for _ in range(steps):
        side.step()
    side.machine.wait()
    return (time.perf_counter() - begun) / steps


def measure(machine: Machine, options: argparse.Namespace, table: list[Row]) -> None:
    """Append all rows of the table."""
    rows = random_pairs(machine, BATCH)
    base = make_base(random_model(machine), machine)
    if options.ours_only:
        for adapters, batch in [(n, BATCH) for n in options.banks] + [(1, n) for n in options.large]:
            ours = Ours(machine, base, random_pairs(machine, batch), adapters, batch, options.dropout, True)
            name = f"{adapters} of batch {batch}"
            table.append(_measure_pair(machine, {name: ours}, options)[name])
            ours.close()
            _forget(machine)
        return
    model = random_model(machine)
    machine.note("models made")
    found = check_equal(machine, base, model, rows, is_static=True)
    machine.note(f"losses and norms agree: {found}")
    autocast = _faster_way(machine, model, rows, options) if machine.is_gpu else False
    stock_rate = 0.0
    for adapters in options.banks:
        ours = Ours(machine, base, rows, adapters, BATCH, options.dropout, True)
        stock = Stock(machine, model, rows, BATCH, options.dropout, autocast)
        name = "alone" if adapters == 1 else f"bank of {adapters}"
        pair = _measure_pair(machine, {name: ours, "stock": stock}, options)
        if not table:
            table.append(pair["stock"])
            stock_rate = pair["stock"].examples_per_second
        pair[name].over_stock = pair[name].examples_per_second / pair["stock"].examples_per_second
        table.append(pair[name])
        ours.close()
        stock.close()
        _forget(machine)
    for batch in options.large:
        ours = Ours(machine, base, random_pairs(machine, batch), 1, batch, options.dropout, True)
        name = f"alone, batch {batch}"
        row = _measure_pair(machine, {name: ours}, options)[name]
        row.over_stock = row.examples_per_second / stock_rate
        table.append(row)
        ours.close()
        _forget(machine)
    if options.large:
        batch = options.large[0]
        stock = Stock(machine, model, random_pairs(machine, batch), batch, options.dropout, autocast)
        name = f"stock, batch {batch}"
        table.append(_measure_pair(machine, {name: stock}, options)[name])
        stock.close()


def _faster_way(machine: Machine, model: Any, rows: EncodedSet, options: argparse.Namespace) -> bool:
    """Whether stock is faster under autocast."""
    seconds = {}
    for autocast in (False, True):
        stock = Stock(machine, model, rows, BATCH, options.dropout, autocast)
        seconds[autocast] = min(rounds_of({"stock": stock}, 2, 0.5)["stock"])
        stock.close()
    machine.note(f"stock's step: {seconds[False]:.4f} s, under autocast {seconds[True]:.4f} s")
    return seconds[True] < seconds[False]


def _measure_pair(
    machine: Machine, sides: dict[str, Ours | Stock], options: argparse.Namespace
) -> dict[str, Row]:
    """A row of each side, their rounds in turn."""
    table = {}
    if machine.is_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = rounds_of(sides, options.rounds, 0.7 if machine.is_gpu else 0.05)
    for name, side in sides.items():
        examples = side.adapters * side.batch
        lengths = [(PAIR_TOKENS, PAIR_TOKENS)] * examples
        rates = [examples / own for own in seconds[name]]
        step = statistics.median(seconds[name])
        row = Row(
            name, side.adapters, side.batch, statistics.median(rates), min(rates), max(rates), step * 1e3
        )
        rate = gemm_rate(machine, lengths)
        row.gemm_tflops = rate / 1e12
        row.roofline = step_flops(machine, lengths) / step / rate
        with counting_syncs(machine) as places:
            side.step()
        row.syncs = len(places) if machine.is_gpu else None
        row.notes = sorted(set(places))
        if machine.is_gpu:
            row.kernels, row.busy_ms = profile(machine, side, options.profile, name)
            row.peak_gib = torch.cuda.max_memory_allocated() / 2**30
        table[name] = row
        machine.note(f"{name}: {row.examples_per_second:,.1f} examples/s, step {row.step_ms:.2f} ms")
    return table


def _forget(machine: Machine) -> None:
    if machine.is_gpu:
        torch.cuda.empty_cache()


def print_table(machine: Machine, rows: Sequence[Row]) -> None:
    """What was measured, and the aims beside it."""
    facts = machine.facts()
    print(
        f"{facts['device']}, torch {facts['torch']}, transformers {facts['transformers']}, "
        f"peft {facts['peft']}, {facts['dtype']}, pairs of {PAIR_TOKENS} tokens, {facts['seconds']} s in all"
    )
    print(
        f"{'':22}{'examples/s':>12}{'(range)':>18}{'ms a step':>11}{'/ stock':>9}{'aim':>7}{'roofline':>10}"
        f"{'GEMM TF/s':>11}{'syncs':>7}{'kernels':>9}{'busy ms':>9}{'GiB':>7}"
    )
    for row in rows:
        aim = AIMS.get(row.name, "")
        if row.name.startswith("alone, batch"):
            aim = f"{AIM_EXAMPLES}/s"
        print(
            f"{row.name:22}{row.examples_per_second:12,.1f}{f'{row.lowest:,.0f}-{row.highest:,.0f}':>18}"
            f"{row.step_ms:11.2f}{_shown(row.over_stock, '.2f'):>9}{aim!s:>7}"
            f"{_shown(row.roofline, '.3f'):>10}"
            f"{_shown(row.gemm_tflops, '.1f'):>11}{_shown(row.syncs, 'd'):>7}{_shown(row.kernels, 'd'):>9}"
            f"{_shown(row.busy_ms, '.2f'):>9}{_shown(row.peak_gib, '.1f'):>7}"
        )


def _shown(value: float | int | None, form: str) -> str:
    return "-" if value is None else format(value, form)


if __name__ == "__main__":
    main()
