"""A small training with everything in it that a crash could disturb, and what must come out of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.run.events import Evaluation, TrainStep
from loraloom.run.folder import Run

NUM_ROWS = 16
SAVE_STEPS = 2
RECIPE = """\
model_name_or_path: {model}
data: {{train: data.json, eval: 4, retain: retain.json, max_source_length: 24, max_target_length: 24}}
lora: {{r: 4, lora_dropout: 0.2}}
training:
  learning_rate: 1.0e-2
  per_device_train_batch_size: 4
  eval_strategy: steps
  eval_steps: 2
  save_strategy: steps
  save_steps: {save_steps}
  save_total_limit: {keep}
  base_dropout: 0.1
experiments:
  long: {{training: {{num_train_epochs: 3}}}}
  short: {{training: {{max_steps: 3, metric_for_best_model: chrf}}, lora: {{r: 2, target_modules: [q, v]}}}}
  stopped:
    training: {{max_steps: 20, gradient_accumulation_steps: 2, early_stopping_patience: 1,
               early_stopping_threshold: 0.9}}
generation: {{max_new_tokens: 8}}
"""


def write_training(folder: Path, model: Path, *, keep: int = 1) -> Path:
    """A recipe with three experiments: 9 steps, 3 steps, and as many as early stopping allows.

    Args:
        keep: save_total_limit.

    Returns:
        The recipe.
    """
    rows = [
        {"instruction": f"感到焦虑时应该怎么办 {n}？", "response": f"先试着和朋友说说自己的事情 {n * n}。"}
        for n in range(NUM_ROWS)
    ]
    (folder / "data.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    known = [{"instruction": "今天星期几？", "response": "今天是星期二。"}] * 2
    (folder / "retain.json").write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
    recipe = folder / f"keep-{keep}.yaml"
    recipe.write_text(RECIPE.format(model=model, keep=keep, save_steps=SAVE_STEPS), encoding="utf-8")
    return recipe


@dataclass(frozen=True)
class Fruits:
    """What a finished run has to show for itself; equal for two runs of one recipe.

    Args:
        adapters: sha256 of every file of every adapter.
        ends: how each experiment ended.
        losses: every training and eval loss, by step and experiment.
    """

    adapters: dict[str, str]
    ends: dict[str, Any]
    losses: dict[str, float]


def fruits(folder: Path) -> Fruits:
    """Of a finished run."""
    run = Run(folder)
    return Fruits(
        adapters={
            str(file.relative_to(run.adapters)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(run.adapters.rglob("*"))
            if file.is_file()
        },
        ends=run.read_json(run.result_file)["experiments"],
        losses={
            f"{event.kind} {event.experiment} {event.step}": event.loss
            if isinstance(event, TrainStep)
            else event.figures["eval_loss"]
            for event in run.events()
            if isinstance(event, TrainStep | Evaluation)
        },
    )


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    """A run's events of one name."""
    return [event.to_json() for event in Run(folder).events() if event.kind == name]
