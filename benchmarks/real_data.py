"""The whole job on real rows: train and compare, on randomly initialised models of two shapes.

    python -m benchmarks.real_data --data FILE [--steps 6] > docs/results.md

A random base knows nothing, so the losses say that the machinery works and what it costs, not how
good an adapter becomes; for that, train on a real base. Prints Markdown.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.random_models import SHAPES, make_model, make_tokenizer
from benchmarks.rounds import options_of
from loraloom import Recipe
from loraloom.commands.compare import compare
from loraloom.commands.train import train
from loraloom.data.examples import read_examples
from loraloom.recipe import DataSettings
from loraloom.run.events import TrainStep
from loraloom.run.folder import Run

SMALL = {
    **SHAPES["mt5-small"],
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 3,
    "num_decoder_layers": 3,
    "num_heads": 4,
}


def run_job(
    model: Path, data: Path, out: Path, training: dict[str, Any], *, held_out: float | int
) -> dict[str, Any]:
    """Train one experiment; the figures of one row of the table."""
    recipe = Recipe.model_validate(
        {
            "model_name_or_path": str(model),
            "data": {"train": data.name, "eval": held_out},
            "training": training,
            "generation": {"max_new_tokens": 32},
        }
    )
    outcome = train(recipe.in_folder(data.parent), out=out)
    steps = [event for event in Run(out).events() if isinstance(event, TrainStep)]
    models = compare(out).models
    base, own = models["base"].figures, models["main"].figures
    return {
        "steps": len(steps),
        "first_loss": steps[0].loss,
        "last_loss": steps[-1].loss,
        "tokens_per_second": sum(step.tokens_per_second for step in steps) / len(steps),
        "base_eval_loss": base["eval_loss"],
        "eval_loss": own["eval_loss"],
        "share_changed": own["share_changed"],
        "peak_gib": outcome.result.peak_bytes / 2**30,
        "wall_seconds": outcome.result.wall_seconds,
    }


def main() -> None:
    """Both jobs, as a Markdown page."""
    parser = options_of(__doc__)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--steps", type=int, default=6, help="of the true-size job")
    options = parser.parse_args()
    data = options.data.resolve()
    examples = read_examples(data, DataSettings(train=data.name), shown_as=data.name)
    tokenizer = make_tokenizer([text for e in examples.examples for text in (e.source, e.response)])
    rows = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        make_model(place / "small", tokenizer, {**SMALL, "vocab_size": len(tokenizer)})
        epoch = {"learning_rate": 1e-3, "num_train_epochs": 1, "per_device_train_batch_size": 8}
        rows["small (one epoch, batch 8)"] = run_job(
            place / "small", data, place / "run-small", epoch, held_out=0.2
        )
        print(json.dumps(rows), file=sys.stderr)
        make_model(place / "true", tokenizer, SHAPES["mt5-small"])
        few = {"learning_rate": 1e-3, "max_steps": options.steps, "per_device_train_batch_size": 5}
        rows[f"mt5-small's shape ({options.steps} steps, batch 5)"] = run_job(
            place / "true", data, place / "run-true", few, held_out=10
        )
    print(page(rows, len(examples.examples)))


def page(rows: dict[str, dict[str, Any]], num_rows: int) -> str:
    """docs/results.md."""
    lines = [
        "# Results on real rows",
        "",
        f"{num_rows} real instruction/response rows, on randomly initialized mT5 models with an untied head.",
        "A random base knows nothing: these figures show that everything runs and what it costs on a 2-core",
        "machine, not how good an adapter becomes. Absolute times vary with the machine.",
        "",
        "Made by `python -m benchmarks.real_data --data FILE`.",
        "",
        "| model | steps | loss, first → last step | eval loss, base → adapter | answers changed "
        "| tokens/s | peak |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['steps']} | {row['first_loss']:.3f} → {row['last_loss']:.3f} "
            f"| {row['base_eval_loss']:.3f} → {row['eval_loss']:.3f} | {row['share_changed']:.0%} "
            f"| {row['tokens_per_second']:,.0f} | {row['peak_gib']:.1f} GiB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
