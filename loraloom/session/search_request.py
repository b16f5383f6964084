"""The request of a search, as its run keeps it, to resume the search without the files that started it."""

from __future__ import annotations

import json

from loraloom.errors import RunError
from loraloom.run.folder import Run
from loraloom.search.request import SPACE_FILE, Request, make_request
from loraloom.search.space_file import parse_space, read_space
from loraloom.session import provenance as origin
from loraloom.text.message import Message


def request_of_run(run: Run) -> Request:
    """Return what a run's search was asked for.

    Raises:
        RunError: the run is not a search, or is damaged.
        RecipeError: its recipe or space is damaged.
    """
    own, known = origin.run_recipe(run)
    asked = known.search
    if asked is None:
        raise RunError(Message("this run is not a search"), where=str(run.folder))
    recipe = own.model_copy(update={"experiments": {}})
    path = run.folder / SPACE_FILE
    space = (
        read_space(path, recipe)
        if path.is_file()  # not yet, if the search was stopped during its checks
        else parse_space(json.dumps(dict(asked.space)), name=str(path), recipe=recipe)
    )
    return make_request(recipe, space, num_trials=asked.trials, sampler=asked.sampler, halving=asked.halving)
