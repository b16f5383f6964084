"""The request of a search, stored completely in its run, so that resuming needs no other files."""

from __future__ import annotations

import json

from loraloom.errors import Problem, RunError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance, SearchRequest
from loraloom.run.folder import Run
from loraloom.run.resuming import how_to_resume, is_range_test
from loraloom.search.request import SPACE_FILE, Request, make_request
from loraloom.search.space_file import parse_space, read_space
from loraloom.session import provenance as origin
from loraloom.text.message import Message


def request_of_run(run: Run) -> Request:
    """Return the request of a run's search.

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
        if path.is_file()  # missing if the search was stopped during its checks
        else parse_space(json.dumps(dict(asked.space)), name=str(path), recipe=recipe)
    )
    return make_request(recipe, space, num_trials=asked.trials, sampler=asked.sampler, halving=asked.halving)


def refuse_another(request: Request, run: Run) -> Provenance:
    """Refuse a request other than the run's; return the provenance of the run.

    Args:
        request: the request of this command.
        run: the run.

    Raises:
        RunError: the run belongs to another request, or is not a search.
    """
    own_recipe, known = origin.run_recipe(run)
    if problems := _differences(request, own_recipe, known.search, run):
        raise RunError(problems)
    return known


def _differences(request: Request, own: Recipe, known: SearchRequest | None, run: Run) -> list[Problem]:
    """List how a request differs from the one that a run was started with."""
    if known is None:
        fix = (
            ""
            if is_range_test(run)
            else Message("To resume it, {how_to_resume}.", how_to_resume=how_to_resume(run))
        )
        return [Problem(Message("this run is not a search"), str(run.folder), fix=fix)]
    problems = origin.differences(request.recipe, own.model_copy(update={"experiments": {}}))
    asked = request.as_document()
    for part in ("trials", "sampler", "halving"):
        own_part, known_part = getattr(asked, part), getattr(known, part)
        may_grow = part == "trials"
        if own_part != known_part and not (may_grow and own_part > known_part):
            what = Message("differs from the search that started this run")
            allowed = Message("{known_part} or more", known_part=known_part) if may_grow else str(known_part)
            problems.append(Problem(what, f"--{part}", found=str(own_part), allowed=allowed))
    ours, theirs = asked.space, known.space
    problems += [
        Problem(
            Message("differs from the run's space"),
            where=f"{SPACE_FILE}: {key}",
            found=str(ours.get(key, "missing")),
            allowed=str(theirs.get(key, "missing")),
        )
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key) != theirs.get(key)
    ]
    return problems
