"""The origin of a run: versions, data, base, seeds, and every automatic choice with its reason."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Collection, Iterable, Sequence
from importlib import metadata
from pathlib import Path

from loraloom.bank.peft_base import portable_name
from loraloom.base.quantization import SCHEMES
from loraloom.data.files.part_files import PartContents
from loraloom.data.retain import read_retained
from loraloom.data.splitting.split import Progress, Split, in_silence
from loraloom.errors import Problem, RunError
from loraloom.forecast.plan import Plan, placed
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.documents.choice import Choice
from loraloom.run.documents.document import JsonObject
from loraloom.run.documents.provenance import BaseIdentity, ProcessRecord, Provenance
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run, now
from loraloom.session.device_list import devices_in_use
from loraloom.session.locations import explain_data_location
from loraloom.session.material import Material
from loraloom.session.provenance_file import read_provenance
from loraloom.session.threads import threads_choice
from loraloom.text.message import Message
from loraloom.text.units import size

# Optuna draws the trials of a search, and implements the journal between a driver and joined workers.
PACKAGES = (
    *("loraloom", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy"),
    "optuna",
)


# Read once per process, which keeps the packages that it has imported, even if others are installed later.
version = functools.cache(metadata.version)


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, of the packages that results depend on, and of those in `more`."""
    return {"python": platform.python_version()} | package_versions((*PACKAGES, *more))


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of packages; optional packages that are not installed are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = version(name)
    return found


def initial_provenance(
    recipe: Recipe,
    split: Split,
    retained: PartContents | None = None,
    allowed: Collection[str] = (),
) -> Provenance:
    """Return the provenance of a run as far as it is known before the base is loaded."""
    return Provenance(
        started=now(),
        folder=str(recipe.folder.resolve()),  # the recipe's relative paths are relative to it
        versions=versions(*quantizers(recipe.quantization)),
        platform=platform.platform(),
        data=split.files,
        retain=_sha256(retained),
        seeds={e.name: e.seed for e in recipe.resolved_experiments},
        allowed=sorted(set(allowed)),  # checks whose errors the user allows
        choices={},
    )


def process_record(known: Provenance, num_processes: int = 1) -> ProcessRecord:
    """Describe the process that resumes a run: when, where, and with which versions.

    Args:
        known: the run's provenance.
        num_processes: number of processes that train together.
    """
    record = ProcessRecord(started=now(), versions=run_versions(known), platform=platform.platform())
    return record if num_processes == 1 else record.model_copy(update={"processes": num_processes})


def run_versions(known: Provenance) -> dict[str, str]:
    """Return the versions that a run depends on; they include Optuna for a search, and any quantizer."""
    more = [] if known.search is None else ["optuna"]
    return versions(*more, *quantizers(known.decided.get("quantization", "")))


def quantizers(quantization: str) -> list[str]:
    """Return the package that quantizes the base, as a list; empty if it is not quantized."""
    return [SCHEMES[quantization].package] if quantization in SCHEMES else []


def with_choices(provenance: Provenance, material: Material, plan: Plan) -> Provenance:
    """Return a provenance with the base added, and every choice that depends on the base."""
    base, devices = material.base, devices_in_use(material.recipe, provenance)
    choices = {
        **base.choices,
        "threads": threads_choice(devices),
        "waves": Choice(" | ".join(", ".join(wave) for wave in plan.waves), plan.reason),
        **_devices(material, plan, devices),
        "pass_tokens": Choice(
            str(plan.pass_tokens),
            Message("on a CPU, sharing a pass saves no arithmetic, and separate passes need less memory")
            if base.device.type == "cpu"
            else Message("smaller passes would leave a GPU partly idle"),
        ),
        **_pass_limit(plan),
        "rows": Choice(
            material.place_of_rows,
            Message("data.keep_rows is {keep_rows}", keep_rows=material.recipe.data.keep_rows),
        ),
        "compiled": Choice(
            Message("no"), Message("compiling takes minutes, more than it saves in a short job")
        ),
    }
    return provenance.replaced(
        base=BaseIdentity(
            name=portable_name(base.name),
            fingerprint=base.fingerprint,
            tokenizer_fingerprint=base.tokenizer_fingerprint,
            head_is_tied=base.head_is_tied,
            commit=base.commit,
        ),
        choices=choices,
        waves=[list(wave) for wave in plan.waves],
    )


def _pass_limit(plan: Plan) -> dict[str, Choice]:
    if plan.pass_limit is None:
        return {}
    reason = Message(
        "memory does not hold a whole micro-batch ({free_bytes} free), so it is computed in several passes; "
        "each optimizer step still uses the same rows",
        free_bytes=size(plan.free_bytes),
    )
    return {"pass_limit": Choice(str(plan.pass_limit), reason)}


def _devices(material: Material, plan: Plan, devices: Sequence[str]) -> dict[str, Choice]:
    """Return the experiments that each of several devices starts with."""
    if len(devices) < 2:
        return {}
    names = [each.name for each in material.experiments]
    begins = placed(names, devices, max(map(len, plan.waves)))
    shown = " | ".join(f"{device}: {', '.join(own) or '-'}" for device, own in begins)
    reason = Message("each device has its own base; waiting experiments go to the first device with room")
    return {"devices": Choice(shown, reason)}


def run_recipe(run: Run) -> tuple[Recipe, Provenance]:
    """Read a run's recipe and its provenance.

    Paths in the recipe are relative to the folder that the run was started in.

    Raises:
        RecipeError, RunError: recipe.yaml or provenance.json is damaged.
    """
    recipe = read_run_recipe(run.recipe_file)
    provenance = read_provenance(run, recipe)
    # Again, because a provenance.json that could not be read for a moment has left the recipe without it.
    return recipe.in_folder(Path(provenance.folder)), provenance


def in_folder_to_resume(run: Run, recipe: Recipe) -> Recipe:
    """Return the recipe; if it has no folder for relative paths, set the one that the run's recipe had."""
    if recipe.has_folder:
        return recipe
    try:
        return recipe.in_folder(Path(read_provenance(run).folder))
    except RunError:  # verifying the run's files reports the damage
        return recipe


def run_split(
    run: Run, recipe: Recipe, known: Provenance, *, is_own: bool = False, progress: Progress = in_silence
) -> Split:
    """Restore a run's split from the data files that the run started with.

    Args:
        run, recipe, known: the run, its recipe with the current location of its data, and its provenance.
        is_own, progress: as in `split_examples`, for rows that are kept in files.

    Raises:
        RunError: split.json is damaged.
        DataError: a file is missing or has changed.
    """
    saved = SplitRecord.read(run.split_file)
    with explain_data_location(run, recipe, known):
        return Split.restore(
            saved,
            recipe.data,
            shown_as=str(run.split_file),
            folder=run.rows,
            is_own=is_own,
            progress=progress,
        )


def run_retained(run: Run, recipe: Recipe, known: Provenance) -> PartContents | None:
    """Read the rows on which a run measures forgetting, from the files that the run started with.

    Raises:
        DataError: a file is missing.
        RunError: a file has changed.
    """
    with explain_data_location(run, recipe, known):
        retained = read_retained(recipe.data)
    check_same_retained(known, retained, run)
    return retained


def check_same_retained(provenance: Provenance, retained: PartContents | None, run: Run) -> None:
    """Refuse to continue if the rows for measuring forgetting are not those that the run started with.

    Raises:
        RunError: files were changed, added or removed.
    """
    now_there = _sha256(retained)
    if "retain" not in provenance.model_fields_set or provenance.retain == now_there:
        return
    before = provenance.retain
    if isinstance(before, dict) and isinstance(now_there, dict):
        names = sorted(name for name in before.keys() | now_there if before.get(name) != now_there.get(name))
        what = Message(
            "files of data.retain were changed, removed or added after the run started: {names}",
            names=", ".join(names),
        )
    else:
        what = Message("the file of data.retain has changed since the run started")
    fix = Message("Restore the rows that the run started with, or start a new run.")
    raise RunError(what, where=str(run.folder), fix=fix)


def _sha256(retained: PartContents | None) -> str | dict[str, str] | None:
    """Return the checksum of the files that contain the retained rows.

    Returns:
        The sha256 of a single file; for several files, a dict from name to sha256; None without files.
    """
    if retained is None:
        return None
    return next(iter(retained.sha256.values())) if len(retained.sha256) == 1 else dict(retained.sha256)


def differences(recipe: Recipe, other: Recipe) -> list[Problem]:
    """Return a problem for every setting in which two recipes differ, ignoring `training.report_to`."""
    without = {"training": {"report_to"}}
    ours, theirs = (_flat(each.model_dump(exclude=without)) for each in (recipe, other))
    return [
        Problem(
            Message("differs from the run's recipe"),
            where=key,
            found=repr(ours.get(key)),
            allowed=repr(theirs.get(key)),
        )
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def _flat(values: JsonObject, prefix: str = "") -> JsonObject:
    flat: JsonObject = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
