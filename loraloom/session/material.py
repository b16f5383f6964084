"""The material that commands work on: a base with an empty bank, encoded rows, and initial adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from loraloom.bank.bank import AdapterBank
from loraloom.base.device_and_dtype import rank_device
from loraloom.base.loading import Base, load_base, model_path
from loraloom.base.mapped_weights import STORED
from loraloom.base.recomputation import recompute_activations
from loraloom.base.safety import read_config
from loraloom.base.supported_models import STARTER
from loraloom.base.targets import Target
from loraloom.data.encoding import EncodedSet, describe_cuts
from loraloom.data.files.part_files import PartContents
from loraloom.data.splitting.split import Progress, Split, in_silence
from loraloom.data.stored.encoded_file import StoredEncodedSet
from loraloom.distributed.launch import read_launch
from loraloom.distributed.ranks import ONE_PROCESS, Ranks
from loraloom.errors import ModelError, Problem, TargetError
from loraloom.recipe import Experiment, Recipe
from loraloom.recipe.schema import UNQUANTIZED
from loraloom.run.folder import Run
from loraloom.session.encoded_rows import encode_rows, train_rows
from loraloom.session.initial_adapters import initial_tensors
from loraloom.text.hub_name import looks_local
from loraloom.text.message import Message
from loraloom.training.setup import Setup
from loraloom.training.signals import AgreedStop, StopRequest

# Choices for the base that adapters are merged into, whatever they were trained on.
TO_MERGE = {"dtype": "float32", "device": "cpu", "quantization": UNQUANTIZED}
# The same for a base that does not fit in memory, whose weights stay in its files.
TO_MERGE_BY_SHARDS = {**TO_MERGE, "dtype": STORED}


@dataclass(frozen=True)
class Material:
    """Everything that a recipe's experiments are trained and checked on.

    Args:
        recipe: the recipe.
        base: the frozen base.
        bank: an empty bank on the base.
        experiments: experiments of the recipe.
        initial: tensors of the adapters that experiments start from, by experiment.
        train_set, eval_set, retain_set: encoded rows; the last two may be empty.
        eval_references: responses of the eval rows, as text.
        notes: notes on the adapters that experiments start from.
    """

    recipe: Recipe
    base: Base
    bank: AdapterBank
    experiments: tuple[Experiment, ...]
    initial: dict[str, dict[str, Tensor]]
    train_set: EncodedSet
    eval_set: EncodedSet
    retain_set: EncodedSet
    eval_references: Sequence[str]
    notes: tuple[str, ...] = ()

    @property
    def place_of_rows(self) -> str:
        """Where the rows are kept: in memory, in files of the run, or in temporary files."""
        if not isinstance(self.train_set, StoredEncodedSet):
            return Message("in memory")
        return (
            Message("in temporary files") if self.train_set.is_temporary else Message("in files of the run")
        )

    def setup(
        self,
        run: Run,
        stop: StopRequest,
        *,
        waves: Sequence[Sequence[str]],
        pass_tokens: int,
        pass_limit: int | None = None,
        ranks: Ranks = ONE_PROCESS,
    ) -> Setup:
        """Create the setup for training these experiments.

        Args:
            run: the run that checkpoints and adapters are written to.
            stop: cancellation token, set by a signal.
            waves: for each planned wave, the names of the experiments that train together.
            pass_tokens: planned maximum number of tokens in a pass that several experiments share.
            pass_limit: planned maximum number of tokens in any pass; None if a whole micro-batch fits in
                memory, so that no limit is needed.
            ranks: the processes that train together.
        """
        return Setup(
            bank=self.bank,
            experiments=self.experiments,
            waves=waves,
            initial=self.initial,
            train_set=self.train_set,
            eval_set=self.eval_set,
            shared=self.recipe.training,
            generation=self.recipe.generation,
            run=run,
            eval_references=self.eval_references,
            retain_set=self.retain_set,
            stop=stop if ranks.size == 1 else AgreedStop(stop),
            pass_tokens=pass_tokens,
            pass_limit=pass_limit,
            ranks=ranks,
        )


def locate_model(recipe: Recipe) -> str:
    """Return the folder of a recipe's base if it exists, otherwise the name in the recipe.

    Raises:
        ModelError: the folder does not exist next to the recipe, but the working directory contains a folder
            of this name, which transformers would use.
    """
    if recipe.locations.base is not None:
        return str(recipe.locations.base)
    name = recipe.model_name_or_path
    own = Path(name).expanduser()
    if name == STARTER or own.is_absolute():
        return str(own)
    path = recipe.locations.path_of(name)
    if not path.exists() and own.is_dir():
        raise ModelError(
            Message(
                "there is no such folder next to the recipe; the one in the working directory is not used "
                "instead"
            ),
            where=name,
            found=Message(
                "nothing at {absolute}, but a folder at {absolute_2}",
                absolute=path.absolute(),
                absolute_2=own.absolute(),
            ),
            fix=Message("Give its path relative to the recipe's folder, or its absolute path."),
        )
    if path.exists():
        return str(own if path == own.absolute() else path)  # from the working directory as written
    return str(path.absolute()) if looks_local(name) and recipe.folder.resolve() != Path.cwd() else name


def model_type_of(recipe: Recipe) -> str | None:
    """Read the model type of a recipe's base from its config, without loading its weights.

    Raises:
        ModelError: the config does not exist, cannot be read, or would run code.
    """
    found = config_of(recipe).get("model_type")
    return found if isinstance(found, str) else None


def config_of(recipe: Recipe) -> dict[str, Any]:
    """Read the config of a recipe's base, without loading its weights.

    Raises:
        ModelError: it does not exist, cannot be read, or would run code.
    """
    return read_config(base_path(recipe), recipe.model_name_or_path)


def base_path(recipe: Recipe) -> str:
    """Return the folder or hub name of a recipe's base."""
    return model_path(locate_model(recipe), allow_bin_weights=recipe.allow_bin_weights)


def shares_base_of(recipe: Recipe, ranks: Ranks) -> bool:
    """Return whether the ranks divide the base's weights among them."""
    return recipe.training.shard_base and ranks.size > 1


def load_recipe_base(
    recipe: Recipe, decided: dict[str, str] | None = None, *, shares_base: bool = False
) -> Base:
    """Load the base of a recipe.

    Args:
        recipe: the recipe.
        decided: dtype, device and quantization recorded in a run's provenance, so that they are not chosen
            again.
        shares_base: whether its weights are divided among the ranks of the training.
    """
    decided = decided or {}
    return load_base(
        locate_model(recipe),
        dtype=decided.get("dtype", recipe.dtype),
        quantization=decided.get("quantization", recipe.quantization),
        device=rank_device(decided.get("device", recipe.first_device), read_launch()),
        allow_bin_weights=recipe.allow_bin_weights,
        recipe=recipe,
        is_sharded=shares_base,
    )


def prepare(
    recipe: Recipe,
    split: Split,
    base: Base,
    retained: PartContents | None = None,
    progress: Progress = in_silence,
) -> Material:
    """Resolve targets, read initial adapters, encode rows, and turn activation checkpointing on or off.

    Everything that trains or measures on this material (training, a search, a range test, the checks, a timed
    step) follows the recipe's `gradient_checkpointing`.

    Raises:
        TargetError: lists the unmatched names of every experiment.
        AdapterError: an initial adapter does not fit its experiment.
    """
    bank = AdapterBank(base)
    recompute_activations(base.model, recipe.training.gradient_checkpointing)
    experiments = recipe.resolved_experiments
    targets = _targets(bank, experiments)
    notes: list[str] = []
    initial = {
        e.name: initial_tensors(e, recipe.locations, bank, targets[e.name], notes)
        for e in experiments
        if e.lora.init_adapter is not None
    }
    return Material(
        recipe=recipe,
        base=base,
        bank=bank,
        experiments=experiments,
        notes=tuple(dict.fromkeys(notes)),
        initial=initial,
        train_set=encode_rows(train_rows(split, base, recipe), base, recipe, progress),
        eval_set=encode_rows(split.eval, base, recipe, progress),
        retain_set=encode_rows(retained.examples if retained else [], base, recipe),
        eval_references=[example.response for example in split.eval],
    )


def cut_notes(material: Material) -> list[str]:
    """Describe the truncation of the sources in each part."""
    limit = material.recipe.data.max_source_length
    parts = {"train": material.train_set, "eval": material.eval_set, "retain": material.retain_set}
    notes = [describe_cuts(part, encoded.source_cuts, limit) for part, encoded in parts.items()]
    return [note for note in notes if note]


def _targets(bank: AdapterBank, experiments: Sequence[Experiment]) -> dict[str, Sequence[Target]]:
    found: dict[str, Sequence[Target]] = {}
    problems: dict[Problem, None] = {}
    for experiment in experiments:
        try:
            found[experiment.name] = bank.targets_of(experiment.lora)
        except TargetError as error:
            problems |= dict.fromkeys(error.problems)
    if problems:
        raise TargetError(problems)
    return found
