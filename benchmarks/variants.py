"""What each variant of LoRA costs beside plain LoRA: memory, predicted and measured, and time of a pass.

    python -m benchmarks.variants [--model starter --data starter] [--steps 6] [--rounds 5]

Memory is that of a training process, as `benchmarks.memory` measures it. Time is of passes forward and
backward over the same rows, each variant in turn, in each of `--rounds` rounds; the first pass is not timed.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks.memory import IMPORTS, measure
from benchmarks.processes import python
from benchmarks.rounds import options_of, ratio

PLAIN = "LoRA"
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "LoRA+": {"loraplus_lr_ratio": 16},
    "DoRA": {"use_dora": True},
    "DoRA, no dropout": {"use_dora": True, "lora_dropout": 0.0},
    "LoRA-FA": {"use_lorafa": True},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = options_of(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--data", default="starter")
    parser.add_argument("--steps", type=int, default=6, help="of the training whose memory is measured")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    imports = python("-c", IMPORTS).peak_bytes
    peaks = {name: measure(recipe(options, changes), imports) for name, changes in VARIANTS.items()}
    seconds = times_of_passes(options)
    print("| variant | memory, MiB | predicted / measured | time of a pass, to LoRA's |")
    print("|---|---|---|---|")
    for name, peak in peaks.items():
        print(
            f"| {name} | {peak.measured / 2**20:.0f} | {1 + peak.error:.2f} "
            f"| {ratio(seconds[name], seconds[PLAIN])} |"
        )


def lora(changes: dict[str, Any]) -> dict[str, Any]:
    """Rank 16 on all linears, with dropout."""
    return {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, **changes}


def recipe(options: argparse.Namespace, changes: dict[str, Any]) -> dict[str, Any]:
    """One experiment in float32."""
    quiet = {"eval_strategy": "no", "save_strategy": "no", "max_steps": options.steps}
    return {
        "model_name_or_path": options.model,
        "data": {"train": options.data, "eval": 0},
        "lora": lora(changes),
        "training": {"per_device_train_batch_size": 8, **quiet},
        "dtype": "float32",
    }


def times_of_passes(options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of a pass forward and backward, by variant, in every round."""
    # Only now: a process begins with the peak of the one that starts it, which must be small above.
    import torch

    from benchmarks.steps import short_pairs
    from loraloom.bank.bank import AdapterBank
    from loraloom.bank.objective import span_losses
    from loraloom.base.loading import load_base
    from loraloom.data.batches import SlotExamples, collate
    from loraloom.data.ownership import training_rows
    from loraloom.recipe import LoraSettings
    from loraloom.starter import model_folder

    torch.manual_seed(0)
    folder = model_folder() if options.model == "starter" else options.model
    base = load_base(str(folder), dtype="float32", device="cpu")
    bank, rows = AdapterBank(base), list(short_pairs(8, base.dimensions.vocab_size))
    for name, changes in VARIANTS.items():
        bank.attach(name, LoraSettings(**lora(changes)), seed=1)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(options.rounds + 1):
        for name in VARIANTS:
            batch = collate([SlotExamples(name, rows)], base.layout, packing=True)
            started = time.perf_counter()
            with bank.rows(training_rows(batch, seeds={name: 1}, steps={name: 0}, micro_batch=0)):
                span_losses(base, batch).sum().backward()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
