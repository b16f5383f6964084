"""A run that trains rows of the embeddings: its card, and what answers while it is still training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loraloom.commands.compare import compare
from loraloom.commands.train import train
from tests.commands.trained import small_recipe


def test_the_table_is_none_of_its_target_modules(
    tiny: Callable[[str], Path], tmp_path: Path, proof_here: Any
) -> None:
    recipe = small_recipe(tmp_path, tiny("mt5"))
    lora = {"target_modules": ["q", "v"], "trainable_token_indices": [5, 7]}
    recipe = recipe.revised({"lora": lora, "training": {"num_train_epochs": 1, "save_strategy": "epoch"}})
    run = train(recipe, out=tmp_path / "run").run.folder
    finished = compare(run, split="eval")
    assert "| target_modules | q, v |" in (run / "adapters/main/README.md").read_text(encoding="utf-8")
    (run / "result.json").unlink()
    shutil.rmtree(run / "adapters/main")
    so_far = compare(run, split="eval")
    assert [row.answers["main"] for row in so_far.rows] == [row.answers["main"] for row in finished.rows]
