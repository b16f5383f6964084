"""Adapters in PEFT's format that belong to no run: their base, and the settings to answer with.

    --base google/mt5-small --adapter mine/checkpoint-900 --adapter theirs=/models/their-adapter

Nothing is trained, so the recipe only states how rows are read and how answers are generated. Settings that
the user does not give have LoRALoom's defaults, which a note states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.bank.bank import AdapterBank
from loraloom.bank.peft_base import portable_name
from loraloom.bank.peft_folder import CONFIG, Adapter, read_adapter
from loraloom.base.loading import Base
from loraloom.data.files.data_names import STARTER
from loraloom.data.ownership import BASE
from loraloom.errors import AdapterError, Problem, RecipeError
from loraloom.evaluate.decoding import describe_unused
from loraloom.recipe import DataSettings, Recipe, is_experiment_name
from loraloom.recipe.reading import parse_recipe_with_notes
from loraloom.recipe.relative_paths import Section
from loraloom.run.documents.comparison import BASE_NAME
from loraloom.session.answering_model import AnsweringModel
from loraloom.session.answering_ranks import ALONE, AnsweringRanks, with_tensors_of_bank
from loraloom.session.material import load_recipe_base
from loraloom.session.shared_passes import Passes
from loraloom.text.message import Message
from loraloom.training.card_facts import Facts, installed_versions

# The sections of a recipe that matter if nothing is trained.
NOT_MERGED = {"dtype", "quantization", "device", "seed"}
TAKEN = {"model_name_or_path", "data", "generation", "allow_bin_weights", *NOT_MERGED}
READING = ("source_prefix", "max_source_length", "max_target_length", "source_truncation")
OPTION = Message("--adapter")
NAMING = Message("Give it a different name: --adapter NAME=FOLDER.")


@dataclass(frozen=True)
class AdapterFolders:
    """Some adapters, and how their base answers with them.

    Args:
        recipe: states the base, how rows are read, and how answers are generated; has an experiment for each
            adapter.
        folders: folder of each adapter, by its name.
        notes: notes to report before anything is loaded.
    """

    recipe: Recipe
    folders: Mapping[str, Path]
    notes: tuple[str, ...]


def find_adapters(
    base: str | Path,
    given: Sequence[str | Path],
    *,
    data: Path | None = None,
    sets: Sequence[str] = (),
    merges: bool = False,
) -> AdapterFolders:
    """Resolve the options `--base`, `--adapter`, `--data` and `--set`.

    Args:
        base: a folder, a hub name, or `starter`.
        given: adapter folders, each with or without `NAME=` in front; without it, the folder's name is used.
        data: the rows to answer, if they are in a file.
        sets: settings as `key=value`, with keys in `TAKEN`.
        merges: whether to refuse dtype, quantization, device and seed, because merging is always done in
            float32 on the CPU.

    Raises:
        AdapterError: a folder contains no adapter, or its name is invalid; nothing is loaded yet.
        RecipeError: a setting is invalid, belongs to training, or repeats an option.
    """
    folders = adapters_by_name(given)
    for folder in folders.values():
        read_adapter(folder)  # before the base, which takes longer
    document = {
        "model_name_or_path": str(base),
        "data": {"train": STARTER if data is None else str(data), "eval": 0},
        "experiments": {name: {} for name in folders},
    }
    stated = parse_recipe_with_notes(json.dumps(document), name=OPTION).recipe
    reading = parse_recipe_with_notes(json.dumps(document), name=OPTION, sets=sets)
    recipe = reading.recipe
    _refuse_restated(recipe, stated)
    if merges and (unused := recipe.model_fields_set & NOT_MERGED):
        raise RecipeError(
            Message(
                "an adapter is merged in float32 on the CPU, so {unused} cannot be set",
                unused=", ".join(sorted(unused)),
            ),
            where="--set",
            fix=Message("The merged folder's dtype is set by --dtype."),
        )
    if foreign := recipe.model_fields_set - TAKEN - {"experiments"}:
        raise RecipeError(
            Message("nothing is trained, so {foreign} cannot be set", foreign=", ".join(sorted(foreign))),
            where="--set",
            allowed=", ".join(sorted(TAKEN - {"model_name_or_path"})),
        )
    of_sets = (note for note in reading.notes if not note.where.startswith(OPTION))
    said = [note.as_message() for note in of_sets]
    return AdapterFolders(recipe, folders, (*said, *_defaults(recipe)))


def _refuse_restated(recipe: Recipe, stated: Recipe) -> None:
    """Refuse settings that would override the options, or be ignored.

    Raises:
        RecipeError: lists all of these settings.
    """
    values: dict[str, tuple[object, object]] = {
        "model_name_or_path": (recipe.model_name_or_path, stated.model_name_or_path),
        "experiments": (recipe.experiments, stated.experiments),
        **{
            f"data.{part}": (getattr(recipe.data, part), getattr(stated.data, part))
            for part in ("train", "eval", "test", "retain")
        },
    }
    fix = Message("Base, adapters and rows are given as options; see --help.")
    problems = [
        Problem(Message("cannot be set with --adapter"), f"--set {key}", fix=fix)
        for key, (own, of_options) in values.items()
        if own != of_options
    ]
    if problems:
        raise RecipeError(problems)


def adapters_by_name(given: Sequence[str | Path]) -> dict[str, Path]:
    """Map the name of each adapter, as it appears in results, to its folder.

    Raises:
        AdapterError: no adapter is given, or a name is invalid or taken.
    """
    if not given:
        raise AdapterError(
            Message("at least one adapter is required"),
            where="--adapter",
            fix=Message("Give an adapter's folder."),
        )
    folders: dict[str, Path] = {}
    problems = []
    for each in given:
        name, folder = _named(str(each))
        where = f"--adapter {each}"
        if not is_experiment_name(name):
            what = Message("this name cannot be used for an adapter in the results")
            allowed = Message("letters, digits, `-`, `_` and `.`; not `base`")
            problems.append(Problem(what, where, name, allowed, NAMING))
        elif name in folders:
            what = Message("two adapters would have the same name")
            problems.append(
                Problem(
                    what,
                    where,
                    Message("{name}, already the name of {folders}", name=name, folders=folders[name]),
                    fix=NAMING,
                )
            )
        folders[name] = folder
    if problems:
        raise AdapterError(problems)
    return folders


def _named(given: str) -> tuple[str, Path]:
    name, equals, rest = given.partition("=")
    if equals and "/" not in name and not Path(given).exists():
        return name, Path(rest).expanduser()
    folder = Path(given).expanduser()
    return folder.resolve().name, folder


def _defaults(recipe: Recipe) -> list[str]:
    """Describe how rows are read and answers generated, and which of these settings are defaults."""
    usual = Recipe(model_name_or_path=STARTER, data=DataSettings(train=STARTER))
    length = {"max_new_tokens": recipe.data.max_target_length}  # the default is the length of a response
    generation = usual.generation.model_copy(update=length)
    return [
        Message(
            "these adapters have no recipe, so answers are generated {by_defaults}; use --set "
            "generation.KEY=VALUE to change this",
            by_defaults=_by_defaults(recipe.generation, generation),
        ),
        Message(
            "sources are read {by_defaults}; if the adapter was trained with other settings, use "
            "--set data.KEY=VALUE",
            by_defaults=_by_defaults(recipe.data, usual.data, READING),
        ),
    ]


def _by_defaults(section: Section, usual: Section, keys: Sequence[str] = ()) -> str:
    """Format settings, as in `with LoRALoom's defaults (num_beams 1, …), except max_new_tokens 20`."""
    shown = set(keys) or set(dict(section)) - {"batch_size"}
    values = {key: value for key, value in section if key in shown and value is not None}
    own = {key: value for key, value in values.items() if value != getattr(usual, key)}
    rest = {key: value for key, value in values.items() if key not in own}
    but = Message(", except {shown}", shown=_shown(own)) if own else ""
    return Message("with LoRALoom's defaults ({shown}){but}", shown=_shown(rest), but=but)


def _shown(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in values.items())


def attach(
    recipe: Recipe, folders: Mapping[str, Path], choices: dict[str, str] | None = None
) -> tuple[AdapterBank, dict[str, Adapter], list[str]]:
    """Load the base of a recipe and attach some adapters.

    Args:
        recipe: names the base.
        folders: folder of each adapter, by its name.
        choices: dtype and device, which replace those in the recipe; None to use the recipe's.

    Returns:
        The bank, the adapters, and notes on them.

    Raises:
        ModelError: the base is unusable.
        AdapterError: an adapter belongs to another base.
    """
    bank = AdapterBank(load_recipe_base(recipe, choices))
    adapters = {name: read_adapter(folder, bank.base) for name, folder in folders.items()}
    for name, adapter in adapters.items():
        bank.attach(name, adapter.settings, seed=0, tensors=adapter.tensors)
    notes = [note for adapter in adapters.values() for note in adapter.notes]
    return bank, with_tensors_of_bank(bank, adapters), notes


def load_adapters(
    given: AdapterFolders, comparisons: Path, *, with_base: bool = True, ranks: AnsweringRanks = ALONE
) -> AnsweringModel:
    """Load the base and its adapters, ready to answer.

    Args:
        given: the adapters to load.
        comparisons: folder in which answers are stored.
        with_base: whether the base answers too.
        ranks: the processes of the command. Only rank 0 answers, because converting another kind of adapter
            to LoRA may need complete weights of the base, and no rank has them if the base is divided.
    """
    alone: list[str] = []
    ranks.divide_base(given.recipe, {}, alone)
    bank, adapters, notes = attach(given.recipe, given.folders)
    chosen = [
        Message("{key}: {value} ({reason})", key=key, value=choice.value, reason=choice.reason)
        for key, choice in bank.base.choices.items()
    ]
    if unused := describe_unused(bank.base, given.recipe.generation):
        notes.append(unused)
    slots: dict[str, str | None] = {BASE_NAME: BASE} if with_base else {}
    slots |= {name: name for name in adapters}
    said = [*alone, *chosen, *notes]
    return AnsweringModel(comparisons, given.recipe, bank.base, Passes(bank), slots, adapters, said)


def foreign_facts(recipe: Recipe, name: str, adapter: Adapter, base: Base) -> Facts:
    """Collect the facts for the model card of an adapter whose training is unknown."""
    experiment = next(each for each in recipe.resolved_experiments if each.name == name)
    config = json.loads((adapter.folder / CONFIG).read_text(encoding="utf-8"))
    targets = config["target_modules"]
    source, target = recipe.data.source_lang, recipe.data.target_lang
    languages: Mapping[str, object] = {}
    if base.languages is not None and source and target:
        languages = base.languages.origin([(source, target)], base.start_token_id)
    return Facts(
        recipe=recipe,
        experiment=replace(experiment, lora=adapter.settings),
        origin={
            "base": portable_name(base.name),
            "base_fingerprint": base.fingerprint,
            "head_is_tied": base.head_is_tied,
            "model_type": base.model.config.model_type,
            **languages,
            **adapter.origin,
        },
        target_modules=[targets] if isinstance(targets, str) else targets,
        files=(),
        num_rows={},
        versions=installed_versions(),
        has_run=False,
    )
