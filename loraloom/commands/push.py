"""push: send an adapter, a merged model or an export to the Hugging Face hub (by default a dry run)."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from loraloom.bank.peft_base import NAME as BASE_KEY
from loraloom.bank.peft_base import portable_name
from loraloom.bank.peft_folder import CONFIG, README, read_adapter
from loraloom.commands.card import adapter_facts, best_comparison, hub_card
from loraloom.errors import Problem, RunError
from loraloom.export.hub_metadata import evaluation_results, join_card, split_card, with_base
from loraloom.export.hub_upload import HubFile, check_name, send
from loraloom.report.training_view import group_of
from loraloom.run.documents.document import JsonObject
from loraloom.run.events import Note, Report, WarningNote, quiet
from loraloom.run.folder import Run, open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_names import one_adapter
from loraloom.text.catalogue import filled
from loraloom.text.hub_name import repository_of, split_hub_name
from loraloom.text.message import Message
from loraloom.training.card_facts import Facts

MODEL_INDEX = "model-index"
_BETWEEN_NAMES = re.compile(r"[\s:：,，]+")  # in the title of a card, in either language


@dataclass(frozen=True)
class _Material:
    """The material from which the files to send are made.

    Args:
        run: the adapter's run.
        facts: facts about the adapter.
        folder: the adapter's folder, or one that `merge` or `export` wrote.
        base: the base's name on the hub; None if unknown.
        repository: repository to send the files to, `owner/name`.
    """

    run: Run
    facts: Facts
    folder: Path
    base: str | None
    repository: str


def push(
    run: Path,
    repository: str,
    *,
    experiment: str | None = None,
    folder: Path | None = None,
    base_model: str | None = None,
    is_public: bool = False,
    sends: bool = False,
    report: Report = quiet,
) -> JsonObject:
    """Send an adapter of a run, or a folder written from it, to a repository on the Hugging Face hub.

    The card contains the evaluation results of the run's comparison in the hub's metadata format.

    Args:
        run: the run directory.
        repository: `owner/name`.
        experiment: the adapter's experiment; may be omitted if the run has only one.
        folder: a folder that `merge` or `export` wrote from this adapter; by default the adapter itself.
        base_model: name of the base on the hub, if the run names a folder.
        is_public: whether everybody can see a new repository; by default only its owners can.
        sends: whether to send; by default the hub is not contacted.
        report: called with notes.

    Returns:
        `{"repository", "experiment", "base", "is_sent", "is_private", "url", "files": [{"path", "bytes"}],
        "bytes", "card": Markdown, "notes"}`; `base` is the base's name on the hub, or None.

    Raises:
        RecipeError: the name of the repository or of the base is invalid.
        RunError: the run has no such adapter, the folder was not written from it, an adapter is to be sent
            whose base has no name on the hub, or the hub cannot be reached or refuses the files.
        AdapterError: the adapter is damaged.
    """
    check_name(repository)
    if base_model is not None:
        check_name(base_model)
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    name, notes = one_adapter(opened, recipe, experiment, usage=["push", str(run), repository])
    read_adapter(opened.adapters / name)
    facts = adapter_facts(opened, name)
    named = recipe.model_name_or_path
    # A relative path reads like owner/name from another folder than that of the training.
    is_local = named == "starter" or Path(known.folder or "", named).is_dir()
    is_local = is_local or portable_name(named) != named or facts.base != named
    base = base_model or (None if is_local else named)
    facts = replace(facts, origin={**facts.origin, "base": base}) if base else facts
    material = _Material(opened, facts, folder or opened.adapters / name, base, repository)
    files, about = _adapter_files(material) if folder is None else _folder_files(material)
    is_adapter = (material.folder / CONFIG).is_file()  # also an export that contains the adapter alone
    notes = [*notes, *about]
    for note in notes:
        report(Note(message=note))
    if base is None:
        _without_base(material, is_adapter=is_adapter, sends=sends, report=report)
    sent = None
    if sends:
        title = f"Upload {name} with LoRALoom"
        sent = send(repository, files, title=title, is_public=is_public, report=report)
    card = next(file.content for file in files if file.path == README)
    assert isinstance(card, bytes)
    return {
        "repository": repository,
        "experiment": name,
        "base": base,
        "is_sent": sent is not None,
        "is_private": not is_public if sent is None else sent.is_private,
        "url": None if sent is None else sent.url,
        "files": [{"path": file.path, "bytes": file.size} for file in files],
        "bytes": sum(file.size for file in files),
        "card": card.decode(),
        "notes": notes,
    }


def _without_base(material: _Material, *, is_adapter: bool, sends: bool, report: Report) -> None:
    """Report that the base has no name on the hub: as a warning for an adapter, otherwise as a note.

    Raises:
        RunError: the adapter is to be sent now; without that name, others could not load it.
    """
    fix = Message(
        "Give its name on the hub with --base-model owner/name, or use --folder to send what `loraloom "
        "merge` wrote."
    )
    what = Message("the base is a folder on this machine, so others cannot load the adapter")
    if is_adapter and sends:
        raise RunError(what, where=material.facts.base, fix=fix)
    if is_adapter:
        report(WarningNote(message=Problem(what, fix=fix).as_message()))
    else:
        report(Note(message=Message("the card names no base; --base-model owner/name adds one")))


def _adapter_files(material: _Material) -> tuple[list[HubFile], list[str]]:
    """List the files of the adapter, with its card for the hub, and the base's hub name in its config."""
    card, notes = _with_results(hub_card(material.run, material.facts, material.repository), material)
    return _files(material.folder, {README: card.encode(), **_config(material)}), notes


def _config(material: _Material) -> dict[str, bytes]:
    """Return the adapter's config with the base's name on the hub; {} for a folder without a config."""
    file = material.folder / CONFIG
    if not file.is_file():
        return {}
    config = json.loads(file.read_text(encoding="utf-8"))
    config[BASE_KEY], revision = split_hub_name(material.facts.base)
    if revision is not None:
        config["revision"] = revision
    return {CONFIG: (json.dumps(config, indent=1) + "\n").encode()}


def _folder_files(material: _Material) -> tuple[list[HubFile], list[str]]:
    """List the files of a merged or exported folder.

    Raises:
        RunError: the folder was not written from this adapter.
    """
    folder, card = material.folder, material.folder / README
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    split = split_card(text)
    fingerprint = str(material.facts.origin["base_fingerprint"])[:16]
    title = "" if split is None else split[1].lstrip().split("\n")[0]
    name = material.facts.experiment.name
    if fingerprint not in text or name not in _BETWEEN_NAMES.split(title):
        raise RunError(
            Message("is not a folder that `loraloom merge` or `loraloom export` wrote from this adapter"),
            where=str(folder),
            allowed=Message(
                "one whose README.md names {experiment}", experiment=material.facts.experiment.name
            ),
            fix=Message("Write it first, or leave --folder out to send the adapter."),
        )
    card_text, notes = _with_results(text, material, is_exported=True)
    return _files(folder, {README: card_text.encode(), **_config(material)}), notes


def _with_results(text: str, material: _Material, *, is_exported: bool = False) -> tuple[str, list[str]]:
    """Add evaluation results to a card's metadata; return the card, and a note on the results."""
    split = split_card(text)
    assert split is not None
    metadata, body = split
    metadata = with_base(metadata, None if material.base is None else repository_of(material.base))
    run, facts = material.run, material.facts
    comparison = best_comparison(run, facts.experiment.name)
    if comparison is None or not comparison.num_judged:
        compare = Message("`loraloom compare {folder}` computes them", folder=run.folder)
        return join_card(metadata, body), [
            Message("the card has no evaluation results: {compare}", compare=compare)
        ]
    name, group = facts.experiment.name, group_of(facts.experiment.name)
    files = [file for file, _ in facts.files]
    metadata[MODEL_INDEX] = evaluation_results(comparison, name, group, files, material.repository)
    note = Message(
        "the card's evaluation results are those of `compare` on the {num_rows} {what} rows",
        num_rows=comparison.num_rows,
        what=comparison.what,
    )
    if is_exported:
        line = filled(
            "The evaluation results were computed with base and adapter, before this folder was written."
        )
        body = f"{body.rstrip()}\n\n{line}\n"
    return join_card(metadata, body), [note]


def _files(folder: Path, changed: dict[str, bytes]) -> list[HubFile]:
    """List the files of a folder except hidden ones; files in `changed` get the contents given there.

    Raises:
        RunError: the folder contains a link, whose target may be outside the folder.
    """
    found = dict[str, bytes | Path](changed)
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*names, *folders]:
            path = Path(parent, name)
            if path.is_symlink():
                raise RunError(Message("is a link; only files are sent"), where=str(path))
            if name in names and not name.startswith("."):
                found.setdefault(path.relative_to(folder).as_posix(), path)
    return [HubFile(path, content) for path, content in sorted(found.items())]
