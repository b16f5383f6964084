"""Many LoRA adapters on one frozen encoder-decoder, in one pass; nothing silent.

from pathlib import Path
from loraloom import compare, read_recipe, train

outcome = train(read_recipe("recipe.yaml"), out=Path("runs/first"))
figures = compare(outcome.run.folder)["models"]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraloom.commands.check import check
    from loraloom.commands.compare import compare
    from loraloom.commands.predict import predict
    from loraloom.commands.train import train
    from loraloom.errors import LoRALoomError
    from loraloom.recipe import Recipe
    from loraloom.recipe.reading import read_recipe

__all__ = ["LoRALoomError", "Recipe", "check", "compare", "predict", "read_recipe", "train"]

# Imported on first use: `import loraloom` alone needs neither torch nor transformers.
_HOMES = {
    "LoRALoomError": "loraloom.errors",
    "Recipe": "loraloom.recipe",
    "read_recipe": "loraloom.recipe.reading",
    "check": "loraloom.commands.check",
    "compare": "loraloom.commands.compare",
    "predict": "loraloom.commands.predict",
    "train": "loraloom.commands.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'loraloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
