"""A follower in training on several ranks: it trains what the leader announces, and writes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import Split, split_examples
from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.forecast.plan import make_plan
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe
from loraloom.run.documents.result import Result
from loraloom.run.events import quiet
from loraloom.run.folder import Run, open_run
from loraloom.run.packing import unpacked
from loraloom.session import provenance as origin
from loraloom.session.answering_model import load_run_base
from loraloom.session.data_checks import DataCheckReport, check_data
from loraloom.session.locations import Relocation
from loraloom.session.material import Material, load_recipe_base, prepare, shares_base_of
from loraloom.session.material_checks import check_material
from loraloom.session.rank_identity import (
    differing,
    material_identity,
    require_same,
    require_same_versions,
    rows_identity,
)
from loraloom.session.resource_plan import predict_resources
from loraloom.session.run_session import resume_session
from loraloom.session.safeguards import device_errors_explained
from loraloom.session.threads import set_threads
from loraloom.training.checkpoint import read_state
from loraloom.training.loop import train
from loraloom.training.movement_report import measure_movements
from loraloom.training.signals import StopRequest


@dataclass(frozen=True)
class Following:
    """The arguments that a follower was started with.

    Args:
        ranks: the processes of the training.
        recipe: recipe as read by this rank.
        split: the recipe's data, if it is already split.
        allowed: names of checks whose errors are warnings.
        resume: the run to resume; None for a new one.
        moved: current locations of the base and data of the run to resume.
        stop: cancellation token, set by a signal.
    """

    ranks: Ranks
    recipe: Recipe
    split: Split | None
    allowed: Collection[str]
    resume: Path | None
    moved: Relocation
    stop: StopRequest


def follow(own: Following) -> tuple[Run, Result]:
    """Train along with the leader; nothing is written.

    Returns:
        The run, whose folder may be on another machine, and how it ended.

    Raises:
        RunError: recipe, rows, base or versions differ from the leader's.
        RankError: another rank ended, or does not answer.
    """
    ranks = own.ranks
    announced = ranks.wait_for("run")
    if "finished" not in announced:
        run, (material, of_data) = Run(Path(announced["folder"])), _same_material(own, announced)
        if material.base.is_sharded:  # the leader's computations with the base
            check_material(material, of_data)
            if announced["is_new"]:
                make_plan(material.experiments, material.base, material.train_set)
        setup = material.setup(run, own.stop, ranks=ranks, **ranks.wait_for("plan"))
        if material.base.is_sharded and announced["is_new"]:
            predict_resources(setup, quiet)
        ranks.announce(f"ready/{ranks.rank}", True)
        own.stop.leaves_at_once = False
        state = read_state(unpacked(ranks.send(None)), run.folder)
        with device_errors_explained(run), ranks.named_gatherings():
            train(setup, state, quiet)
        if material.base.is_sharded:
            measure_movements(setup, state, quiet)
    ended = ranks.wait_for("result")
    return Run(Path(ended["folder"])), Result.model_validate(ended["result"])


def _same_material(own: Following, announced: dict[str, Any]) -> tuple[Material, DataCheckReport]:
    """Read the rows and the base, and verify that they are the same as on the leader.

    Returns:
        Base and rows, and the findings of the data checks.

    Raises:
        RunError: names everything that differs.
    """
    require_same_versions(announced["versions"])
    leaders = Run(Path(announced["folder"]))
    if problems := origin.differences(
        own.recipe, parse_recipe(announced["recipe"], name=leaders.recipe_file.name)
    ):
        raise RunError([differing(problem) for problem in problems])
    set_threads(announced["choices"])
    if own.resume is not None:
        run = open_run(own.resume)
        recipe, known = origin.run_recipe(run)
        session = resume_session(run, recipe, known, own.moved, quiet, is_own=False)
        recipe, split, retained = session.recipe, session.split, session.retained
    else:
        recipe, known = own.recipe, None
        # The leader's files of rows, if this rank sees them; otherwise files of its own.
        split = own.split or split_examples(
            recipe.data, allow_leakage="leakage" in own.allowed, folder=leaders.rows, is_own=False
        )
        retained = read_retained(recipe.data)
    require_same(rows_identity(split), announced["rows"])
    of_data = check_data(recipe, split, own.allowed, retained=retained)
    shares_base = shares_base_of(recipe, own.ranks)
    base = (
        load_recipe_base(recipe, announced["choices"], shares_base=shares_base)
        if known is None
        else load_run_base(recipe, known, shares_base=shares_base)
    )
    # Before encoding, because the leader has then written the tokens of rows that are kept in files.
    leaders_base = own.ranks.wait_for("base") if split.is_stored else None
    material = prepare(recipe, split, base, retained)
    require_same(material_identity(material), leaders_base or own.ranks.wait_for("base"))
    return material, of_data
