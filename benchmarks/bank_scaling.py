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
from typing import Any

import torch
from transformers import MT5Config, MT5ForConditionalGeneration

from benchmarks.real_data import make_tokenizer
from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.data.encoding import EncodedSet
from loraloom.recipe import Experiment, GenerationSettings, LoraSettings, TrainingSettings
from loraloom.run import create_run
from loraloom.training.loop import train
from loraloom.training.plan import pass_tokens
from loraloom.training.setup import Setup
from loraloom.training.state import TrainingState
from loraloom.training.stopping import StopRequest

SHAPES: dict[str, dict[str, int]] = {
    "mt0-large": {"d_model": 1024, "d_kv": 64, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "mt5-base": {"d_model": 768, "d_kv": 64, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "mt5-small": {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
}
VOCABULARY = 250_112
NUM_ROWS = 200
WARM_UP = 3
EOS = 1
NO_ROWS = EncodedSet([], [])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="mt0-large")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch-size", type=int, default=5)
    parser.add_argument("--ticks", type=int, default=12, help="timed, after three that are not")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = _base(options, Path(scratch) / "base")
        rows = _random_rows()
        seconds: dict[int, list[float]] = {number: [] for number in options.adapters}
        for turn in range(options.rounds):
            for number, own in seconds.items():
                own.append(_tick_seconds(base, rows, number, options, Path(scratch) / f"{turn}-{number}"))
    _report(base, options, seconds)


def _base(options: argparse.Namespace, folder: Path) -> Base:
    """A random mT5 of that shape, with a head of its own, through the real loading code."""
    tokenizer = make_tokenizer(["loom"])
    shape = SHAPES[options.shape]
    torch.manual_seed(0)
    config = MT5Config(
        **shape,
        num_decoder_layers=shape["num_layers"],
        vocab_size=VOCABULARY,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, options.dtype))
    try:
        model: Any = MT5ForConditionalGeneration(config)
        head = torch.randn(VOCABULARY, shape["d_model"]) * shape["d_model"] ** -0.5
    finally:
        torch.set_default_dtype(default)
    model.lm_head.weight = torch.nn.Parameter(head)
    model.config.tie_word_embeddings = False
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    return load_base(str(folder), dtype=options.dtype, device=options.device)


def _random_rows() -> EncodedSet:
    generator = torch.Generator().manual_seed(0)

    def tokens(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return [*torch.randint(1000, VOCABULARY, (length - 1,), generator=generator).tolist(), EOS]

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

    def note(event: str, **fields: Any) -> None:
        if event == "train":  # the loop has read the losses: the device is done
            ends[fields["step"]] = time.perf_counter()

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
        ratios = [each / first for each, first in zip(own, one, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{number} adapters: {1e3 * statistics.median(own):9.1f} ms a tick, "
            f"{statistics.median(ratios):.2f} times {options.adapters[0]} ({spread})"
        )
    if base.device.type == "cuda":
        print(f"largest allocation: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
