"""One training whose sums are taken in other orders: rows packed or alone, one process or several.

    python -m benchmarks.orders [--batch-size 8] [--learning-rate 3e-4] [--ranks 2 4] [--seeds 1 2 3]

Trains an adapter of rank 16 on the starter in float32: in one process with its examples packed, then with
each in a row of its own, and on several processes. Everything but the order of sums is equal. It prints how
far the gradients of a batch are apart that is packed and not; and, beside the first training, the largest
difference of a loss of all steps and that of the adapters at the end.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import python
from benchmarks.rounds import options_of
from benchmarks.scale import losses_of, on_ranks

COLUMNS = ("seed", "order", "largest difference of a loss", "relative to the loss", "of the adapters")
SLOT = "main"


def main() -> None:
    """Measure and print a line for the gradient and a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    print(f"gradient of a batch, packed and not: {gradient_difference(options.batch_size):.1e} of its norm\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            for line in lines(Path(scratch) / str(seed), seed, options):
                print(line, flush=True)


def lines(folder: Path, seed: int, options: argparse.Namespace) -> Iterator[str]:
    """Train in every order, and compare with the first."""
    folder.mkdir()
    recipe = write_recipe(folder, seed, options)
    first = folder / "packed"
    python("-m", "loraloom", "train", recipe, "--out", first)
    alone = folder / "alone"
    python("-m", "loraloom", "train", recipe, "--set", "training.packing=false", "--out", alone)
    yield line(seed, "one process, not packed", alone, first)
    for size in options.ranks:
        run = folder / f"ranks-{size}"
        on_ranks(size, run, ["train", recipe, "--out", run])
        yield line(seed, f"{size} processes", run, first)


def line(seed: int, order: str, run: Path, first: Path) -> str:
    """A row of the table."""
    losses, expected = losses_of(run), losses_of(first)
    differences = [abs(own - wanted) for own, wanted in zip(losses, expected, strict=True)]
    relative = max(own / wanted for own, wanted in zip(differences, expected, strict=True))
    cells = seed, order, f"{max(differences):.1e}", f"{relative:.1e}", f"{adapter_difference(run, first):.1e}"
    return f"| {' | '.join(map(str, cells))} |"


def write_recipe(folder: Path, seed: int, options: argparse.Namespace) -> Path:
    """Write the recipe of one experiment on the starter."""
    recipe = {
        "model_name_or_path": "starter",
        "data": "starter",
        "lora": {"r": 16},
        "training": {
            "max_steps": options.steps,
            "learning_rate": options.learning_rate,
            "per_device_train_batch_size": options.batch_size,
            "eval_strategy": "no",
            "save_strategy": "no",
            "seed": seed,
        },
        "dtype": "float32",
        "device": "cpu",
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    return file


def adapter_difference(run: Path, first: Path) -> float:
    """Return the norm of the difference of two adapters, relative to the first one's."""
    from safetensors.torch import load_file

    of_run, of_first = (
        load_file(next((each / "adapters").glob("*/adapter_model.safetensors"))) for each in (run, first)
    )
    difference = sum(float((of_run[name] - own).square().sum()) for name, own in of_first.items())
    return float((difference / sum(float(own.square().sum()) for own in of_first.values())) ** 0.5)


def gradient_difference(batch_size: int) -> float:
    """Return how far the gradients of a batch, packed and not, are apart, relative to their norm."""
    import torch

    from benchmarks.steps import real_rows
    from loraloom.bank.bank import AdapterBank
    from loraloom.bank.objective import span_losses
    from loraloom.base.loading import load_base
    from loraloom.data.batches import SlotExamples, collate
    from loraloom.data.ownership import training_rows
    from loraloom.recipe import LoraSettings
    from loraloom.starter import data_file, model_folder

    base = load_base(str(model_folder()), dtype="float32", device="cpu")
    rows = list(real_rows(batch_size, data_file("train"), base.tokenizer))
    bank = AdapterBank(base)
    bank.attach(SLOT, LoraSettings(r=16), seed=1)
    found = []
    for packing in (True, False):
        batch = collate([SlotExamples(SLOT, rows)], base.layout, packing=packing)
        for parameter in bank.parameters(SLOT):
            parameter.grad = None
        with bank.rows(training_rows(batch, seeds={SLOT: 1}, steps={SLOT: 0}, micro_batch=0)):
            span_losses(base, batch).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in bank.parameters(SLOT) if p.grad is not None]))
    packed, alone = found
    return float((packed - alone).norm() / packed.norm())


if __name__ == "__main__":
    main()
