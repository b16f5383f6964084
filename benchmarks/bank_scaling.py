"""What N adapters cost beside one: the training loop on a random base of true shape, the ratio printed.

    python -m benchmarks.bank_scaling [--shape mt0-large] [--dtype bfloat16] [--adapters 1 2 4 8]

On a GPU a batch of five short rows leaves the device idle, and eight adapters should take little longer
than one: the aim is less than 1.5 times, on mt0-large's shape in bfloat16. On a CPU one adapter fills the
device already, and the ratio says what sharing saves of overhead alone. The rows are random, of the
lengths of real ones (8 to 24 source tokens, 15 to 60 target tokens); needs no data and no download.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.random_models import SHAPES, make_model, make_tokenizer
from benchmarks.rounds import options_of, ratio
from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.data.encoding import EncodedSet
from loraloom.forecast.plan import pass_tokens
from loraloom.recipe import Experiment, GenerationSettings, LoraSettings, TrainingSettings
from loraloom.run.events import Event, TrainStep
from loraloom.run.folder import create_run
from loraloom.training.loop import train
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest
from loraloom.training.state import TrainingState

NUM_ROWS = 200
WARM_UP = 3
EOS = 1
NO_ROWS = EncodedSet([], [])


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="mt0-large")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--ticks", type=int, default=12, help="timed, after three that are not")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "base"
        dtype = getattr(torch, options.dtype)
        make_model(folder, make_tokenizer(["loom"]), SHAPES[options.shape], dtype=dtype)
        base = load_base(str(folder), dtype=options.dtype, device=options.device)
        rows = _random_rows(base.model.config.vocab_size)
        seconds: dict[int, list[float]] = {number: [] for number in options.adapters}
        for turn in range(options.rounds):
            for number, own in seconds.items():
                own.append(_tick_seconds(base, rows, number, options, Path(scratch) / f"{turn}-{number}"))
    _report(base, options, seconds)


def _random_rows(vocabulary: int) -> EncodedSet:
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return [*torch.randint(1000, vocabulary, (length - 1,), generator=generator).tolist(), EOS]

    pairs = [(tokens(8, 25), tokens(15, 61)) for _ in range(NUM_ROWS)]
    return EncodedSet([source for source, _ in pairs], [target for _, target in pairs])


def _tick_seconds(
    base: Base, rows: EncodedSet, number: int, options: argparse.Namespace, folder: Path
) -> float:
    """The median tick of so many adapters of rank 16 on all linears."""
    training = TrainingSettings(
        per_device_train_batch_size=options.batch_size,
        max_steps=WARM_UP + options.ticks,
        eval_strategy="no",
        save_strategy="no",
    )
    lora = LoraSettings(r=16, lora_alpha=32, lora_dropout=0.1)
    experiments = [Experiment(f"e{each}", f"e{each}", lora, training, each) for each in range(number)]
    names = [experiment.name for experiment in experiments]
    ends: dict[int, float] = {}

    def note(event: Event) -> None:
        if isinstance(event, TrainStep):  # the loop has read the losses: the device is done
            ends[event.step] = time.perf_counter()

    setup = Setup(
        bank=AdapterBank(base),
        experiments=experiments,
        waves=[names],
        initial={},
        train_set=rows,
        eval_set=NO_ROWS,
        eval_references=[],
        retain_set=NO_ROWS,
        shared=training,
        generation=GenerationSettings(),
        run=create_run(folder),
        stop=StopRequest(),
        pass_tokens=pass_tokens(base),
    )
    train(setup, TrainingState.at_start(names), note)
    times = [ends[step] for step in sorted(ends)][WARM_UP - 1 :]
    return statistics.median(after - before for before, after in itertools.pairwise(times))


def _report(base: Base, options: argparse.Namespace, seconds: dict[int, list[float]]) -> None:
    device = torch.cuda.get_device_name(base.device) if base.device.type == "cuda" else "CPU"
    print(
        f"{options.shape} shape, {options.dtype}, batch {options.batch_size}, {device}, "
        f"{torch.get_num_threads()} threads"
    )
    one = seconds[options.adapters[0]]
    for number, own in seconds.items():
        print(
            f"{number} adapters: {1e3 * statistics.median(own):9.1f} ms a tick; "
            f"to {options.adapters[0]}: {ratio(own, one)}"
        )
    if base.device.type == "cuda":
        print(f"largest allocation: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
