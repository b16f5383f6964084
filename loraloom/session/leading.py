"""The leader in training on several ranks: it owns the run folder, and announces what to train.

    leader    create or resume ─ checks ─ plan ───────┬─ train ─ adapters, result
                 │ run          │ base                │ plan, state        │ result
    follower     └─ same rows ──┴─ same base ─ ready ─┴─ train ────────────┘

Every rank reads recipe, rows and base itself; a follower refuses what differs from the leader's
(`following.py`). With a single process, these functions do nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.recipe.reading import write_recipe
from loraloom.run.documents.result import Result
from loraloom.run.folder import Run
from loraloom.run.packing import packed
from loraloom.session import provenance as origin
from loraloom.session.material import Material
from loraloom.session.rank_identity import material_identity, rows_identity
from loraloom.session.run_session import RunSession
from loraloom.text.message import Message
from loraloom.training.checkpoint import state_files
from loraloom.training.state import TrainingState


def announce_run(ranks: Ranks, session: RunSession) -> None:
    """Announce recipe, rows and versions to the followers; each compares them with its own.

    Raises:
        RunError: the recipe lists several devices, which only a single process can use.
    """
    if ranks.size > 1:
        if len(session.recipe.devices) > 1:
            raise RunError(
                Message("cannot be set if several processes train together, as each has a device of its own"),
                where="devices",
                fix=Message("Remove it, or start a single process."),
            )
        ranks.announce(
            "run",
            {
                "folder": str(session.run.folder.absolute()),
                "recipe": write_recipe(session.recipe),
                "choices": session.known.decided,
                "is_new": session.known.waves is None,
                "rows": rows_identity(session.split),
                "versions": origin.versions(*origin.quantizers(session.recipe.quantization)),
            },
        )


def announce_base(ranks: Ranks, material: Material) -> None:
    """Announce to the followers which base and which tokens the leader has loaded."""
    if ranks.size > 1:
        ranks.announce("base", material_identity(material))


def announce_plan(ranks: Ranks, waves: Sequence[Sequence[str]], sizes: dict[str, int | None]) -> None:
    """Announce to the followers which experiments train together, and how large a pass may be."""
    if ranks.size > 1:
        ranks.announce("plan", {"waves": [list(wave) for wave in waves], **sizes})


def start_together(ranks: Ranks, state: TrainingState) -> None:
    """Wait until all ranks are ready, and give them the state to train from.

    Raises:
        RankError: a rank has ended, or does not answer.
    """
    if ranks.size > 1:
        ranks.wait_for_all("ready")
        ranks.send(packed(dict(state_files(state))))


def announce_result(ranks: Ranks, run: Run) -> None:
    """Announce to the followers how the run ended."""
    if ranks.size > 1:
        result = Result.read(run.result_file)
        ranks.announce("result", {"folder": str(run.folder.absolute()), "result": json.loads(result.text())})
