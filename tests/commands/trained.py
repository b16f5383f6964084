"""Small runs that the tests of merge and card share: trained in half a second, from absolute paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loraloom.commands.train import train
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe

ROWS = [
    {"instruction": f"我感到焦虑 {i} how?", "output": f"先慢慢来, {i * 7 % 10} 和朋友说 {i}."}
    for i in range(24)
]


def train_small(folder: Path, base: Path, experiments: Sequence[str] = (), **data: Any) -> Path:
    """A finished run in a folder, of `small_recipe`."""
    return train(small_recipe(folder, base, experiments, **data), out=folder / "run").run.folder


# Characters of the rows and of the vocabularies' beginnings.
TOKEN_IDS = list(range(3, 60))


def train_token_rows(folder: Path, base: Path) -> Path:
    """A finished run whose adapter has rows of the embeddings of its own, which its answers need."""
    lora = {"target_modules": ["q", "v"] if "t5" in base.name else ["q_proj", "v_proj"]}
    recipe = small_recipe(folder, base).revised({"lora": {**lora, "trainable_token_indices": TOKEN_IDS}})
    return train(recipe, out=folder / "run").run.folder


def small_recipe(folder: Path, base: Path, experiments: Sequence[str] = (), **data: Any) -> Recipe:
    """A recipe of a few steps, whose rows are in the folder.

    Args:
        base: the model's folder, named by its absolute path.
        experiments: their names, each of which trains q and v only; one named main, of all linears, without.
        data: more settings of `data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.json").write_text(json.dumps(ROWS, ensure_ascii=False), encoding="utf-8")
    recipe = {
        "model_name_or_path": str(base),
        "data": {"train": str(folder / "rows.json"), "eval": 6, "max_target_length": 16, **data},
        "lora": {"r": 4, "lora_alpha": 8},
        "training": {
            "learning_rate": 0.02,
            "num_train_epochs": 2,
            "per_device_train_batch_size": 6,
            "save_strategy": "no",
        },
        "experiments": {
            name: {"lora": {"target_modules": ["q", "v"]}, "seed": seed}
            for seed, name in enumerate(experiments)
        },
        "generation": {"max_new_tokens": 12},
        "device": "cpu",
    }
    return parse_recipe(json.dumps(recipe), name="recipe").in_folder(folder)


def machine_paths(*folders: Path) -> list[str]:
    """What no file may hold that is given away."""
    return [*{str(folder.parent) for folder in folders}, str(Path.cwd())]
