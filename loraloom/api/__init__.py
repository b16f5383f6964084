"""The commands as functions for programs and notebooks, with typed results, cancellation tokens and events.

    import loraloom

    result = loraloom.train("recipe.yaml", report=print)
    print(loraloom.compare(result.run).sentences)

No function here writes to the terminal or installs a signal handler. `report` is called with every event of
`loraloom.run.events` as it happens; `stop` is a `StopRequest`, which any thread may set: the function then
saves and raises `Interrupted`. Inside `with stop_on_signals() as stop`, SIGINT and SIGTERM set it, as on the
command line.

Torch is imported when a function that needs it is called. Three functions, `run_search`, `write_export` and
`write_report`, are named differently from their commands, because `search`, `export` and `report` are
subpackages.
"""

from __future__ import annotations

from loraloom.api.answer_calls import compare, predict
from loraloom.api.check_calls import check, check_script
from loraloom.api.run_calls import card, merge, push, runs, write_export, write_report
from loraloom.api.training_calls import (
    demo,
    find_learning_rate,
    init,
    recipe_schema,
    run_search,
    train,
)
from loraloom.errors import Interrupted, LoRALoomError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_recipe
from loraloom.run.events import Event
from loraloom.training.signals import StopRequest, stop_on_signals

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
