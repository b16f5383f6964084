"""Setup of ranks that share a base and answer together: the same base and adapters on each.

    leader      load run ─ which base ─ load ─── base ──────────── adapters ─ attach ─ passes … end
                              │                   │        │          │                  │
    follower                  └────────── load ───┴─ same ─┴─ ready ──┴─────── attach ───┘

Only the leader sees the run, reads adapters and rows, and writes; a follower needs the base at the same path.
What the ranks compute together is in `shared_passes.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_folder import Adapter
from loraloom.base.loading import Base
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.recipe import LoraSettings, Recipe
from loraloom.recipe.reading import parse_recipe, write_recipe
from loraloom.recipe.relative_paths import RUN_RECIPE, Locations
from loraloom.run.packing import packed, unpacked
from loraloom.session import provenance as origin
from loraloom.session.material import load_recipe_base, shares_base_of
from loraloom.session.rank_identity import base_identity, require_same, require_same_versions
from loraloom.session.shared_passes import Passes, SharedPasses, follow_passes
from loraloom.session.threads import set_threads
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest

SETTINGS = "settings.json"


class AnsweringRanks:
    """The processes of a command that answers, as the leader sees them; by default a single one.

    Args:
        ranks: the processes.
    """

    def __init__(self, ranks: Ranks = ONE_PROCESS) -> None:
        self.ranks = ranks
        self._shared: SharedPasses | None = None

    @property
    def shares_base(self) -> bool:
        """Whether the ranks have divided the base."""
        return self._shared is not None

    def divide_base(self, recipe: Recipe, choices: Mapping[str, str], notes: list[str]) -> bool:
        """Decide whether the ranks divide the base, and tell the followers, which end if it is not divided.

        Args:
            recipe: recipe with the current location of its base.
            choices: dtype and device of the base, if they are already decided.
            notes: receives a note if the leader answers alone.
        """
        if self.ranks.size == 1:
            return False
        if reason := _why_alone(recipe, self.ranks):
            self.ranks.announce("answering", {"alone": True})
            self.ranks.exchange("ended")
            notes.append(
                Message(
                    "rank 0 answers alone, and the other {number} end: {reason}",
                    number=self.ranks.size - 1,
                    reason=reason,
                )
            )
            return False
        base = recipe.locations.base
        self.ranks.announce(
            "answering",
            {
                "recipe": write_recipe(recipe),
                "folder": str(recipe.folder),
                "base": None if base is None else str(base),
                "choices": {**choices, "threads": str(torch.get_num_threads())},
                "versions": origin.versions(),
            },
        )
        return True

    def attach(self, base: Base, adapters: Mapping[str, Adapter]) -> Passes:
        """Attach adapters, on all ranks if they share the base.

        Args:
            base: the base as loaded on this rank.
            adapters: adapters by name.

        Raises:
            RankError: another rank ended, or does not answer; for example because it has a different base.
        """
        bank = AdapterBank(base)
        if base.is_sharded:
            self.ranks.announce("base", base_identity(base))
            self.ranks.wait_for_all("ready")
            self.ranks.send(packed(_files(adapters)))
        for name, adapter in adapters.items():
            bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
        if not base.is_sharded:
            return Passes(bank)
        self._shared = SharedPasses(bank, self.ranks)
        return self._shared

    def end(self) -> None:
        """End the followers, after the last pass."""
        if self._shared is not None:
            self._shared.end()
            self.ranks.exchange("ended")


ALONE = AnsweringRanks()


def _why_alone(recipe: Recipe, ranks: Ranks) -> str:
    """Return why the ranks do not divide the base; "" if they do."""
    if not shares_base_of(recipe, ranks):
        return Message("the base is divided only for a run with training.shard_base")
    settings = [experiment.lora for experiment in recipe.resolved_experiments]
    if any(own.modules_to_save or own.trainable_token_indices for own in settings):  # trained by one process
        return Message("an adapter has trained norms or rows of the embeddings, which need an undivided base")
    return ""


def follow_answers(ranks: Ranks, stop: StopRequest) -> None:
    """Answer along with the leader; nothing is written.

    Args:
        ranks: the processes of the command.
        stop: the cancellation token of this process.

    Raises:
        RunError: base or versions differ from the leader's.
        Interrupted: a rank was asked to stop.
        RankError: another rank ended, or does not answer.
    """
    announced = ranks.wait_for("answering")
    if "alone" not in announced:
        _follow_shared(ranks, announced, stop)
    ranks.exchange("ended")


def _follow_shared(ranks: Ranks, announced: dict[str, Any], stop: StopRequest) -> None:
    """Load the leader's base, attach its adapters, and compute its passes."""
    require_same_versions(announced["versions"])
    set_threads(announced["choices"])
    moved = None if announced["base"] is None else Path(announced["base"])
    recipe = parse_recipe(announced["recipe"], name=RUN_RECIPE)
    recipe = recipe.located(Locations(Path(announced["folder"]), moved))
    base = load_recipe_base(recipe, announced["choices"], shares_base=True)
    require_same(base_identity(base), ranks.wait_for("base"))
    ranks.announce(f"ready/{ranks.rank}", True)
    stop.leaves_at_once = False
    bank, files = AdapterBank(base), unpacked(ranks.send(None))
    for name, settings in json.loads(files.pop(SETTINGS)).items():
        tensors = load(files[f"{name}.safetensors"])
        bank.attach(name, LoraSettings.model_validate(settings), seed=0, tensors=tensors)
    follow_passes(bank, ranks, stop)


def with_tensors_of_bank(bank: AdapterBank, adapters: Mapping[str, Adapter]) -> dict[str, Adapter]:
    """Return attached adapters with the bank's tensors in place of equal ones, whose memory is then free."""
    return {name: replace(adapter, tensors=bank.tensors(name)) for name, adapter in adapters.items()}


def _files(adapters: Mapping[str, Adapter]) -> dict[str, bytes]:
    settings = {name: adapter.settings.model_dump(mode="json") for name, adapter in adapters.items()}
    tensors = {
        f"{name}.safetensors": save({key: each.contiguous() for key, each in adapter.tensors.items()})
        for name, adapter in adapters.items()
    }
    return {SETTINGS: json.dumps(settings).encode(), **tensors}
