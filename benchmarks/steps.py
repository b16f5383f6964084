"""A training step beside stock PEFT's on a processor: one table, one JSON.

    python -m benchmarks.steps [--shapes starter mt5-small] [--data FILE] [--threads 2] [--out steps.json]

*Stock* is what PEFT and Seq2SeqTrainer do in a step, at its best without new code: dynamic padding, batches
grouped by length as the Trainer groups them, SDPA, fused AdamW, and in bfloat16 the faster of PEFT's two ways
(adapters in float32, or the Trainer's autocast). *Ours* is `take_step`: all that a training does in a step
but its log. Both sides take the same rows in every round, a step of one and a step of the other in turn, with
the same dropout. Before it, without dropout and from the same A and B, three losses and gradient norms must
agree: within 1e-4 in float32, in bfloat16 as `check_equal` says.

Shapes other than the starter have random weights. Their softmax is flat; `--sharpness` scales the head until
it is as sharp as a trained model's. The roofline fraction is the arithmetic that the method needs over the
step's time, against the rate of the model's own products at that number of tokens, timed in the same run.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from transformers import AutoModelForSeq2SeqLM
from transformers.trainer_pt_utils import get_length_grouped_indices

from benchmarks.counting import gemm_rate, step_flops
from benchmarks.random_models import SHAPES, make_tokenizer
from benchmarks.rounds import options_of, ratio
from benchmarks.sides import Machine, Ours, Stock, check_equal, make_base, random_model
from loraloom.base.kernel_caches import bound_kernel_caches
from loraloom.base.loading import load_base
from loraloom.data.encoding import EncodedSet
from loraloom.data.examples import read_examples
from loraloom.recipe import DataSettings
from loraloom.starter import data_file, model_folder

STARTER = "starter"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Row:
    """One side of one job.

    Args:
        side, shape, data, dtype, batch, dropout: what was measured.
        min_ms, median_ms, spread: of a step, over the rounds; the spread is (most - least) / median.
        over_stock: time of a stock step over that of this side: the median of the rounds, and their range.
        roofline: see the head of this file.
        gemm_gflops: the rate that it is measured against.
        load: processes that wanted to run, on average, when it ended.
    """

    side: str
    shape: str
    data: str
    dtype: str
    batch: int
    dropout: float
    min_ms: float
    median_ms: float
    spread: float
    over_stock: str
    roofline: float
    gemm_gflops: float
    load: float


def main() -> None:
    """Measure, print, write."""
    parser = options_of(__doc__)
    parser.add_argument("--shapes", nargs="+", default=[STARTER, "mt5-small"], choices=[STARTER, *SHAPES])
    parser.add_argument("--data", type=Path, help="rows to use beside short pairs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="of each side in a round")
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu is for a machine that others use"
    )
    parser.add_argument("--sharpness", type=float, default=1.0, help="factor of a random head")
    parser.add_argument("--profile", action="store_true", help="print where the time of our side goes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    bound_kernel_caches()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    for shape in options.shapes:
        for found in _jobs(shape, options):
            rows += found
            print_rows(found, with_head=len(rows) == len(found))
    if options.out:
        told = {key: str(value) for key, value in vars(options).items() if value is not None}
        told["seeds"] = "model 0, rows 1, adapter 0, order of stock 0"
        written = {"machine": machine_facts(), "options": told, "rows": [asdict(row) for row in rows]}
        options.out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def machine_facts() -> dict[str, Any]:
    """Processor and versions."""
    versions = {each.__name__: each.__version__ for each in (torch, transformers, peft)}
    system = {"system": platform.platform(), "python": platform.python_version()}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"processors": os.cpu_count(), "capability": capability, **system, **versions}


def _jobs(shape: str, options: argparse.Namespace) -> Iterator[list[Row]]:
    """Measure a shape on each kind of rows."""
    dtype, cpu, clock = getattr(torch, options.dtype), torch.device("cpu"), CLOCKS[options.clock]
    if shape == STARTER:
        base = load_base(STARTER, dtype=options.dtype, device="cpu")
        machine = Machine(cpu, dtype, base.model.config.to_dict(), clock)
        model = AutoModelForSeq2SeqLM.from_pretrained(model_folder(), dtype=dtype, dropout_rate=0.0)
    else:
        machine = Machine(cpu, dtype, SHAPES[shape], clock)
        model = random_model(machine)
        model.lm_head.weight.data.mul_(options.sharpness)
        base = make_base(copy.deepcopy(model), machine)
    number = options.steps * options.batch_size
    jobs: dict[str, EncodedSet] = {}
    if shape == STARTER:
        jobs["starter rows"] = real_rows(number, data_file("train"), base.tokenizer)
    else:
        jobs["short pairs"] = short_pairs(number, machine.shape["vocab_size"])
    if options.data:
        tokenizer = base.tokenizer if shape == STARTER else None
        jobs[options.data.name] = real_rows(number, options.data, tokenizer)
    for name, rows in jobs.items():
        check_equal(machine, base, model, rows)
        yield measure(machine, base, model, rows, shape, name, options)


def short_pairs(number: int, vocabulary: int) -> EncodedSet:
    """Make rows of 8 to 24 source and 15 to 60 target tokens."""
    draw = partial(torch.randint, generator=torch.Generator().manual_seed(1))

    def tokens(least: int, most: int) -> list[int]:
        return [*draw(3, vocabulary, (int(draw(least, most + 1, ())) - 1,)).tolist(), 1]

    return EncodedSet([tokens(8, 24) for _ in range(number)], [tokens(15, 60) for _ in range(number)])


def real_rows(number: int, file: Path, tokenizer: Any = None) -> EncodedSet:
    """Read the first rows of a file, cut to 256 tokens; without a tokenizer, learn one from the file."""
    examples = read_examples(file, DataSettings(train=file.name), shown_as=file.name).examples
    if tokenizer is None:
        tokenizer = make_tokenizer([text for each in examples for text in (each.source, each.response)])
    own = [
        tokenizer(text, truncation=True, max_length=256).input_ids
        for e in examples[:number]
        for text in (e.source, e.response)
    ]
    return EncodedSet(own[::2], own[1::2])


def measure(
    machine: Machine,
    base: Any,
    model: Any,
    rows: EncodedSet,
    shape: str,
    data: str,
    options: argparse.Namespace,
) -> list[Row]:
    """Time both sides, a step of each in turn; a round is as many steps as give every row once."""
    batch, dropout = options.batch_size, options.dropout
    ours = Ours(machine, base, rows, 1, batch, dropout)
    autocast = machine.dtype == torch.bfloat16 and _is_autocast_faster(machine, model, rows, options)
    stock = Stock(machine, model, rows, batch, dropout, autocast)
    generator = torch.Generator().manual_seed(0)
    lengths = [(len(row.input_ids), len(row.labels)) for row in rows]
    seconds: dict[str, list[float]] = {"stock": [], "ours": []}
    rates, steps = [], -(-len(rows) // batch)  # a file may have fewer rows
    for number in range(options.rounds + 1):
        grouped = get_length_grouped_indices([source for source, _ in lengths], batch, generator=generator)
        own = {"stock": 0.0, "ours": 0.0}
        for first in range(0, len(rows), batch):
            examples = [rows[row] for row in grouped[first : first + batch]]
            own["stock"] += _timed(machine, partial(stock.take, examples))
            own["ours"] += _timed(machine, ours.step)
        if number:  # the first warms up
            for side, total in own.items():
                seconds[side].append(total / steps)
            rates.append(gemm_rate(machine, lengths[:batch]))
    if options.profile:
        with torch.profiler.profile() as profile:
            for _ in range(options.steps):
                ours.step()
        print(
            profile.key_averages().table(
                sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=40
            )
        )
    ours.close()
    stock.close()
    rate, flops = statistics.median(rates), step_flops(machine, lengths) / steps
    return [
        Row(
            side=f"stock{', autocast' if autocast else ''}" if side == "stock" else side,
            shape=shape,
            data=data,
            dtype=options.dtype,
            batch=batch,
            dropout=dropout,
            min_ms=1e3 * min(own),
            median_ms=1e3 * statistics.median(own),
            spread=(max(own) - min(own)) / statistics.median(own),
            over_stock=ratio(seconds["stock"], own),
            roofline=flops / statistics.median(own) / rate,
            gemm_gflops=rate / 1e9,
            load=os.getloadavg()[0],
        )
        for side, own in seconds.items()
    ]


def _is_autocast_faster(machine: Machine, model: Any, rows: EncodedSet, options: argparse.Namespace) -> bool:
    """Find the faster of PEFT's two ways, each at its best of five steps in turn."""
    seconds: dict[bool, list[float]] = {False: [], True: []}
    stock = Stock(machine, model, rows, options.batch_size, options.dropout)
    for number in range(10):
        stock.autocast = bool(number % 2)
        seconds[stock.autocast].append(_timed(machine, stock.step))
    stock.close()
    least = {autocast: min(found) for autocast, found in seconds.items()}
    machine.note(f"stock's step: {least[False]:.4f} s, under autocast {least[True]:.4f} s")
    return least[True] < least[False]


def _timed(machine: Machine, work: Any) -> float:
    begun = machine.clock()
    work()
    return machine.clock() - begun


def print_rows(rows: list[Row], *, with_head: bool) -> None:
    """Print lines of the table."""
    titles = ["shape", "data", "dtype", "side", "ms a step: least, median", "spread", "stock / this"]
    titles += ["roofline", "GFLOP/s", "load"]
    if with_head:
        print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for row in rows:
        what = f"{row.shape} | {row.data} | {row.dtype} | {row.side}"
        times = f"{row.min_ms:,.0f}, {row.median_ms:,.0f} | {row.spread:.0%} | {row.over_stock}"
        rates = f"{row.roofline:.2f} | {row.gemm_gflops:,.0f} | {row.load:.1f}"
        print(f"| {what} | {times} | {rates} |", flush=True)


if __name__ == "__main__":
    main()
