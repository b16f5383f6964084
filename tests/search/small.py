"""Searches of a second: a recipe and a space on a tiny base, and what they came to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from loraloom.commands.search import SearchOutcome, search
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe, read_recipe
from loraloom.run.events import Report, quiet
from loraloom.run.folder import Run
from loraloom.search.request import Request, make_request
from loraloom.search.space_file import parse_space
from tests.commands.trained import ROWS
from tests.fast_process import read_revisions_once

read_revisions_once()
SPACE = """\
lr: {low: 1.0e-3, high: 3.0e-2, log: true}
lora:
  r: [2, 4]
  target_modules: [[q, v], [q, wo]]
"""
# 18 rows to train on: 3 steps an epoch, 8 steps, evaluated at 2, 4, 6 and 8.
TRAINING = {
    "max_steps": 8,
    "per_device_train_batch_size": 6,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 3,
}


def write_recipe_file(folder: Path, base: Path, **changes: Any) -> Path:
    """A recipe and its data in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    recipe = {
        "model_name_or_path": str(base),
        "data": {"train": "rows.json", "eval": 6, "max_source_length": 16, "max_target_length": 12},
        "lora": {"r": 4, "lora_dropout": 0.1, "target_modules": ["q", "v"]},
        "training": TRAINING | changes.pop("training", {}),
        "device": "cpu",
        **changes,
    }
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe), encoding="utf-8")
    return file


def request_of(recipe: Path | Recipe, space: str = SPACE, **options: Any) -> Request:
    """What to search: six random trials unless said otherwise."""
    settings = read_recipe(recipe) if isinstance(recipe, Path) else recipe
    options = {"num_trials": 6, "sampler": "random"} | options
    return make_request(settings, parse_space(space, name="space.yaml", recipe=settings), **options)


def run_search(
    recipe: Path, out: Path, *, report: Report = quiet, resume: bool = False, **options: Any
) -> SearchOutcome:
    """Search into a folder, or go on there."""
    where: dict[str, Any] = {"resume" if resume else "out": out}
    return search(request_of(recipe, **options), report=report, **where)


@dataclass(frozen=True)
class Fruits:
    """What a search has to show for itself; equal for two of one request.

    Args:
        trials: name → parameters, status, steps.
        figures: name → the best, rounded as far as the shape of a product may change it.
        best: a name.
        adapters: folders.
        states: of Optuna's trials, by number.
    """

    trials: dict[str, Any]
    figures: dict[str, float | None]
    best: str
    adapters: list[str]
    states: list[str]


def fruits(folder: Path) -> Fruits:
    """Of a finished search."""
    run = Run(folder)
    document = run.read_json(folder / "search.json")
    return Fruits(
        trials={
            t["name"]: (t["parameters"], t["status"], t["steps"], sorted(t["rungs"]))
            for t in document["trials"]
        },
        figures={
            t["name"]: None if t["figure"] is None else round(t["figure"], 4) for t in document["trials"]
        },
        best=document["best"],
        adapters=sorted(path.name for path in run.adapters.iterdir()),
        states=[trial.state.name for trial in study_of(folder).trials],
    )


def study_of(folder: Path) -> optuna.Study:
    """As anybody opens it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'study.db'}")


def plain_recipe(text: str = "", **changes: Any) -> Recipe:
    """A recipe that no file belongs to."""
    return parse_recipe(
        text or json.dumps({"model": "m", "data": {"train": "d.json"}, **changes}), name="recipe.yaml"
    )


SearchView = Callable[..., Path]
