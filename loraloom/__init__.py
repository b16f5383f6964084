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
    from loraloom.errors import LoRALoomError
    from loraloom.recipe import Recipe
    from loraloom.recipe.file import read_recipe
    from loraloom.workflows.check import check
    from loraloom.workflows.compare import compare
    from loraloom.workflows.predict import predict
    from loraloom.workflows.train import train

__all__ = ["LoRALoomError", "Recipe", "check", "compare", "predict", "read_recipe", "train"]

# Imported when they are asked for: `import loraloom` alone needs neither torch nor transformers.
_HOMES = {
    "LoRALoomError": "loraloom.errors",
    "Recipe": "loraloom.recipe",
    "read_recipe": "loraloom.recipe.file",
    "check": "loraloom.workflows.check",
    "compare": "loraloom.workflows.compare",
    "predict": "loraloom.workflows.predict",
    "train": "loraloom.workflows.train",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'loraloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
