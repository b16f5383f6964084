"""Predicted ‖ΔW‖ / ‖W‖ beside what training comes to, for recipes from 9.65e-7 to 3e-3.

    python -m benchmarks.movement [--model M] [--data D] [--epochs N] [--steps N] [--rows N] [--too-far]

All recipes train as one bank. `--steps` cuts every training to so many, for a base that takes its time;
answers are compared with the base's on the first `--rows` rows of the eval split.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.rounds import options_of
from loraloom import Recipe
from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import read_adapter
from loraloom.checks.movement_forecast import forecast
from loraloom.commands.train import train
from loraloom.data.ownership import BASE
from loraloom.data.splitting.split import split_examples
from loraloom.evaluate.generation import answer
from loraloom.evaluate.loss import eval_losses
from loraloom.evaluate.movement import movement
from loraloom.recipe import Experiment, GenerationSettings
from loraloom.run.events import Event, ExperimentEnd
from loraloom.session.material import Material, load_recipe_base, prepare
from loraloom.text.units import percent

FEW, ALL = ["q", "v"], "all-linear"
COLUMNS = (
    "rate",
    "targets",
    "r, s",
    "batch",
    "steps",
    "schedule",
    "predicted",
    "measured",
    "ratio",
    "changed",
    "eval loss",
)


def recipe_of(rate: float, targets: Any, r: int, alpha: float, batch: int, **training: Any) -> dict[str, Any]:
    """One experiment."""
    return {
        "lora": {"target_modules": targets, "r": r, "lora_alpha": alpha},
        "training": {"learning_rate": rate, "per_device_train_batch_size": batch, **training},
    }


EXPERIMENTS = {
    "a": recipe_of(9.65e-7, ALL, 16, 32, 5),
    "b": recipe_of(9.65e-6, FEW, 16, 32, 5),
    "c": recipe_of(9.65e-6, ALL, 16, 32, 5),
    "d": recipe_of(1e-4, ALL, 4, 8, 16),
    "e": recipe_of(3e-4, FEW, 32, 32, 5, lr_scheduler_type="cosine", warmup_steps=0.1),
    "f": recipe_of(1e-3, ALL, 16, 32, 5),
    "g": recipe_of(1e-3, FEW, 4, 16, 16, lr_scheduler_type="constant"),
    "h": recipe_of(3e-3, ALL, 8, 16, 5),
}
TOO_FAR = {
    "a": recipe_of(3e-3, ALL, 16, 32, 5),
    "b": recipe_of(1e-2, ALL, 16, 32, 5),
    "c": recipe_of(3e-2, ALL, 16, 32, 5),
}


def main() -> None:
    """Predict, train, measure, print."""
    parser = options_of(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--data", default="starter")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--too-far", action="store_true", help="Rates that may destroy the base instead.")
    options = parser.parse_args()
    recipe = _recipe(options)
    base = load_recipe_base(recipe)
    material = prepare(recipe, split_examples(recipe.data), base)
    forecasts = forecast(base, material.experiments, material.train_set)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    with tempfile.TemporaryDirectory() as scratch:
        run = train(recipe, out=Path(scratch) / "run", report=_progress).run
        adapters = {each.name: read_adapter(run.adapters / each.name, base) for each in material.experiments}
    bank = AdapterBank(base)
    for name, adapter in adapters.items():
        bank.attach(name, adapter.settings, 0, adapter.tensors)
    changed = _share_changed(material, bank, options.rows)
    names = [each.name for each in material.experiments]
    losses = eval_losses(bank, [BASE, *names], material.eval_set, batch_size=16)
    for each in material.experiments:
        predicted, measured = forecasts[each.name].movement(), movement(bank, each.name).total
        cells = [
            *_settings(each, forecasts[each.name].timetable.total_steps),
            percent(predicted),
            percent(measured),
            f"{predicted / measured:.2f}" if measured else "–",
            f"{changed[each.name]:.0%}",
            f"{losses[BASE]:.2f} → {losses[each.name]:.2f}",
        ]
        print(f"| {' | '.join(cells)} |")


def _recipe(options: argparse.Namespace) -> Recipe:
    return Recipe.model_validate(
        {
            "model_name_or_path": options.model,
            "data": {
                "train": options.data,
                "eval": "starter" if options.data == "starter" else 0.1,
                "max_source_length": 64,
                "max_target_length": 96,
            },
            "lora": {"lora_dropout": 0.1},
            "training": {
                "weight_decay": 0.01,
                "num_train_epochs": options.epochs,
                "eval_strategy": "no",  # so that the last adapter is kept, not the best
                "save_strategy": "no",
                "max_steps": options.steps,
            },
            "experiments": TOO_FAR if options.too_far else EXPERIMENTS,
        }
    )


def _progress(event: Event) -> None:
    if isinstance(event, ExperimentEnd):
        print(f"{event.experiment} has ended", file=sys.stderr, flush=True)


def _share_changed(material: Material, bank: AdapterBank, num_rows: int) -> dict[str, float]:
    """The share of answers to held-out rows that are not the base's to the letter."""
    sources = [row.input_ids.tolist() for row in material.eval_set][:num_rows]
    names = [each.name for each in material.experiments]
    answers = answer(bank, [BASE, *names], sources, GenerationSettings(max_new_tokens=40, batch_size=16))
    pairs = {name: zip(answers[name], answers[BASE], strict=True) for name in names}
    return {name: sum(a != b for a, b in pair) / len(sources) for name, pair in pairs.items()}


def _settings(experiment: Experiment, total_steps: int) -> list[str]:
    lora, training = experiment.lora, experiment.training
    targets = lora.target_modules if isinstance(lora.target_modules, str) else ", ".join(lora.target_modules)
    batch = str(training.per_device_train_batch_size)
    warm = " after warm-up" if training.warmup_steps else ""
    schedule = f"{training.lr_scheduler_type}{warm}"
    return [
        f"{training.learning_rate:g}",
        targets,
        f"{lora.r}, {lora.scaling:g}",
        batch,
        str(total_steps),
        schedule,
    ]


if __name__ == "__main__":
    main()
