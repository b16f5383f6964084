"""card: a model card for an adapter, with its base, training, evaluation figures, and loading code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from loraloom.bank.peft_base import portable_name
from loraloom.bank.peft_folder import CONFIG, read_adapter
from loraloom.errors import RunError
from loraloom.evaluate.movement import movement
from loraloom.report.card_figures import comparison_lines, movement_line
from loraloom.run.atomic import replace_text
from loraloom.run.documents.comparison import Comparison, Movement
from loraloom.run.documents.document import JsonObject
from loraloom.run.events import Note, Report, quiet
from loraloom.run.folder import Run, open_run
from loraloom.run.lock import writing
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import attach, find_adapters, foreign_facts
from loraloom.session.adapter_names import one_adapter
from loraloom.session.material import TO_MERGE
from loraloom.session.provenance_file import read_provenance
from loraloom.text.catalogue import filled
from loraloom.text.message import Message
from loraloom.training.adapter_card import front_matter, python_block, title, training_sections
from loraloom.training.card_code import merged_code, peft_code
from loraloom.training.card_facts import Facts, read_facts

# Rows that selected nothing come first.
COMPARISONS = ("test", "eval")


def card(run: Path, *, experiment: str | None = None, out: Path | None = None) -> JsonObject:
    """Write a model card for one adapter of a run.

    Args:
        run: the run directory.
        experiment: the adapter's experiment; may be omitted if the run has only one.
        out: the file to write, replaced if it exists.

    Returns:
        `{"experiment", "card": Markdown, "file": the file written, or None}`.

    Raises:
        RunError: `run` is not a run or has no such adapter, or the file cannot be written.
        AdapterError: the adapter is damaged.
    """
    opened = open_run(run)
    recipe, _ = origin.run_recipe(opened)
    name, _ = one_adapter(opened, recipe, experiment, usage=["card", str(run)])
    text = _written(lambda: run_card(opened, adapter_facts(opened, name)), out)
    return {"experiment": name, "card": text, "file": None if out is None else str(out)}


def card_foreign(
    base: str | Path, adapter: str | Path, *, out: Path | None = None, report: Report = quiet
) -> JsonObject:
    """Write a model card for an adapter that belongs to no run.

    Args:
        base: a folder, a hub name, or `starter`; it is loaded, to verify that the adapter fits it.
        adapter: a folder in PEFT's format, with or without `NAME=` in front.
        out: the file to write, replaced if it exists.
        report: called with notes on the adapter.

    Returns:
        As in `card`.

    Raises:
        LoRALoomError: the base or the adapter is unusable, or the file cannot be written.
    """
    given = find_adapters(base, [adapter])
    ((name, folder),) = given.folders.items()
    bank, adapters, notes = attach(given.recipe, given.folders, TO_MERGE)
    for note in notes:
        report(Note(message=note))
    facts = foreign_facts(given.recipe, name, adapters[name], bank.base)
    moved = movement(bank, name)
    text = _written(lambda: foreign_card(facts, moved, folder), out)
    return {"experiment": name, "card": text, "file": None if out is None else str(out)}


def _written(make: Callable[[], str], out: Path | None) -> str:
    """Return a new card; if a file is given, make the card and write it there while holding the file's lock.

    Raises:
        RunError: the file cannot be written.
    """
    if out is None:
        return make()
    try:
        with writing(out, doing=Message("is writing this card")):
            text = make()
            replace_text(out, text)
    except OSError as error:
        raise RunError(
            Message("cannot be written: {strerror}", strerror=error.strerror), where=str(out)
        ) from None
    return text


def adapter_facts(run: Run, name: str) -> Facts:
    """Collect the facts for the card of a finished adapter."""
    folder = run.adapters / name
    known = read_provenance(run)
    adapter = read_adapter(folder)
    base = known.base
    named = {
        "base": portable_name("" if base is None else base.name),
        "base_fingerprint": "" if base is None else base.fingerprint,
        "head_is_tied": None if base is None else base.head_is_tied,
        **adapter.origin,
    }
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    targets = config["target_modules"]
    return read_facts(run, name, named, [targets] if isinstance(targets, str) else targets, known.versions)


def run_card(run: Run, facts: Facts) -> str:
    """Return the model card for one adapter of a run."""
    name, folder = facts.experiment.name, run.folder.resolve().name
    merge = f"loraloom merge {folder} merged --experiment {name}"
    code = peft_code(facts, f"adapters/{name}", filled("the adapter's folder, in the run"))
    return _card(facts, _figures(run, facts, folder), code, merge)


def hub_card(run: Run, facts: Facts, repository: str) -> str:
    """Return the model card for one adapter of a run, as the README of a repository on the hub.

    Args:
        facts: facts about the adapter, with the base's name on the hub.
        repository: `owner/name`; the example code in the card loads the adapter from it.
    """
    return "\n".join(
        [
            front_matter(facts, "peft"),
            title(facts),
            "",
            filled("Trained with LoRALoom; PEFT and plain transformers load it."),
            "",
            f"## {filled('What it does')}",
            "",
            *_figures(run, facts, run.folder.resolve().name),
            "",
            f"## {filled('Use')}",
            "",
            python_block(peft_code(facts, repository, filled("the adapter, on the hub"))),
            "",
            *training_sections(facts),
        ]
    )


def best_comparison(run: Run, name: str) -> Comparison | None:
    """Read the comparison that an adapter's card shows; None if the adapter was not compared.

    Raises:
        RunError: the file is damaged.
    """
    for what in COMPARISONS:
        file = run.comparisons / f"{what}.json"
        if not file.is_file():
            continue
        again = Message("`loraloom compare {folder}` writes it again.", folder=run.folder.resolve().name)
        comparison = Comparison.read(file, again)
        if name in comparison.models:
            return comparison
    return None


def foreign_card(facts: Facts, moved: Movement, folder: Path) -> str:
    """Return the model card for an adapter that belongs to no run."""
    given = f"--base {facts.base} --adapter {folder.resolve().name}"
    lines = [
        filled(
            "No figures were computed. `loraloom compare {given} --data FILE` computes them, with intervals.",
            given=given,
        ),
        "",
        movement_line(moved),
    ]
    code = peft_code(facts, folder.resolve().name, filled("the adapter's folder"))
    return _card(facts, lines, code, f"loraloom merge {given} merged")


def _card(facts: Facts, effects: Sequence[str], code: str, merge: str) -> str:
    if facts.has_run:
        origin = filled("Trained with LoRALoom; PEFT and plain transformers load it.")
    else:
        origin = filled("PEFT and plain transformers load it.")
    return "\n".join(
        [
            front_matter(facts, "peft"),
            title(facts),
            "",
            origin,
            "",
            f"## {filled('What it does')}",
            "",
            *effects,
            "",
            f"## {filled('Use')}",
            "",
            filled("With PEFT:"),
            "",
            python_block(code),
            "",
            filled("Without PEFT, and faster, once merged by `{merge}`:", merge=merge),
            "",
            python_block(merged_code(facts, "merged", filled("what `loraloom merge` wrote"))),
            "",
            *training_sections(facts),
        ]
    )


def _figures(run: Run, facts: Facts, folder: str) -> list[str]:
    """Return the card's lines on the effect of the adapter, as the comparison of the run measured it.

    Without a comparison, there is a single line, which names the command that makes one.

    Raises:
        RunError: the file of the comparison is damaged.
    """
    comparison = best_comparison(run, facts.experiment.name)
    if comparison is None:
        return [
            filled(
                "No figures were computed. `loraloom compare {folder}` computes them, with intervals.",
                folder=folder,
            )
        ]
    try:
        return comparison_lines(comparison, facts.experiment.name)
    except (KeyError, ValueError) as error:
        raise RunError(
            Message("is not a file that `loraloom compare` writes"),
            where=str(run.comparisons / f"{comparison.what}.json"),
            found=str(error),
        ) from None
