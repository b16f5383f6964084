"""Many LoRA adapters on one frozen encoder-decoder, in one pass; nothing fails silently.

    import loraloom

    result = loraloom.train("recipe.yaml", out="runs/first")
    print(loraloom.compare(result.run).sentences)

Every command except those that start a server is also available as a function; see `loraloom.api`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loraloom.api import (
        Event,
        Interrupted,
        LoRALoomError,
        Recipe,
        StopRequest,
        card,
        check,
        check_script,
        compare,
        demo,
        find_learning_rate,
        init,
        merge,
        predict,
        push,
        read_recipe,
        recipe_schema,
        run_search,
        runs,
        stop_on_signals,
        train,
        write_export,
        write_report,
    )

__all__ = [
    "Event",
    "Interrupted",
    "LoRALoomError",
    "Recipe",
    "StopRequest",
    "card",
    "check",
    "check_script",
    "compare",
    "demo",
    "find_learning_rate",
    "init",
    "merge",
    "predict",
    "push",
    "read_recipe",
    "recipe_schema",
    "run_search",
    "runs",
    "stop_on_signals",
    "train",
    "write_export",
    "write_report",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import loraloom` takes no time and needs neither torch nor pydantic.
    if name in __all__:
        return getattr(importlib.import_module("loraloom.api"), name)
    raise AttributeError(f"module 'loraloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
