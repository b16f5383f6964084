"""Every verb as a function, for notebooks, programs and servers: typed results, a token to stop by, events.

    import loraloom

    result = loraloom.train("recipe.yaml", report=print)
    print(loraloom.compare(result.run).sentences)

No function here writes to the terminal or installs a signal handler. `report` is told of every event of
`loraloom.run.events` as it happens; `stop` is a `StopRequest`, which any thread may set: the verb then saves
and raises `Interrupted`. Inside of `with stop_on_signals() as stop`, SIGINT and SIGTERM set one, as on the
command line.

Torch is imported when a function that needs it is called. Two functions are not called like their commands,
because parts of the package are: `search` is `run_search`, and `report` is `write_report`.
"""

from __future__ import annotations

from loraloom.api.answer_calls import compare, predict
from loraloom.api.run_calls import card, merge, runs, write_report
from loraloom.api.training_calls import (
    check,
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
    "compare",
    "demo",
    "find_learning_rate",
    "init",
    "merge",
    "predict",
    "read_recipe",
    "recipe_schema",
    "run_search",
    "runs",
    "stop_on_signals",
    "train",
    "write_report",
]
