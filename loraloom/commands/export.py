"""export: write an adapter, with or without its base, in another program's format, and verify it there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from loraloom.architectures.families import family_of
from loraloom.bank.peft_folder import read_adapter
from loraloom.commands.card import adapter_facts
from loraloom.commands.merge import load_with_adapter, run_rows
from loraloom.comparison.compared_rows import prompts_in_files
from loraloom.data.example import Example
from loraloom.data.prompts.prompts import to_answer
from loraloom.data.splitting.split import split_examples
from loraloom.errors import DataError, ModelError, RecipeError
from loraloom.export.exported_folder import (
    MOST_PROOF_ROWS,
    ExportRequest,
    ExportSummary,
    num_proof_rows,
    write_export,
)
from loraloom.export.format import Form, Format
from loraloom.export.formats import FORMATS
from loraloom.export.merge_way import memory_note
from loraloom.export.proof import choose_rows, spread
from loraloom.export.staging import check_out, staged_beside
from loraloom.export.transformers_format import Transformers
from loraloom.recipe import Recipe
from loraloom.run.events import Note, Report, quiet
from loraloom.run.folder import open_run
from loraloom.session import provenance as origin
from loraloom.session.adapter_folders import attach, find_adapters, foreign_facts
from loraloom.session.adapter_names import one_adapter
from loraloom.session.locations import Relocation, relocated
from loraloom.session.material import TO_MERGE, base_path, config_of
from loraloom.session.row_advice import OF_ADAPTERS, OF_RUN
from loraloom.text.message import Message
from loraloom.training.signals import StopRequest, stop_on_signals


def export(
    run: Path,
    out: Path,
    *,
    format: str,
    quantization: str | None = None,
    adapter_only: bool = False,
    experiment: str | None = None,
    base: Path | None = None,
    data: Path | None = None,
    prompts: Path | None = None,
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> ExportSummary:
    """Write an adapter of a run in another program's format, and verify it with that program.

    Args:
        run: the run directory.
        out: the folder to create; it must not exist.
        format: `transformers`, `peft`, `ctranslate2`, …
        quantization: one of the format's quantizations; by default the lossless one.
        adapter_only: export the adapter without its base, if the format can.
        experiment: the adapter's experiment; may be omitted if the run has only one.
        base, data: current locations of the run's base (a folder) and data (a folder or file), if they were
            moved; they must be unchanged.
        prompts: a data file (known answers may be missing) or a text file with one prompt per line, to verify
            with instead of the run's rows.
        report: called with progress and notes.
        stop: cancellation token; without one, SIGINT and SIGTERM request a stop.

    Raises:
        RecipeError: there is no such format or quantization, or the format always includes the base.
        RunError: the run has no such adapter, `out` exists, or there is too little disk space.
        AdapterError: the adapter is damaged or belongs to another base.
        ModelError: the format cannot represent this model, a package is missing, or the verification failed.
        DataError: the prompts cannot be read.
        Interrupted: a stop was requested; nothing is left at `out`.
    """
    options = [] if quantization is None else ["--quantization", quantization]
    options += ["--adapter-only"] if adapter_only else []
    chosen, quantization, form = _chosen(format, quantization, adapter_only)
    opened = open_run(run)
    recipe, known = origin.run_recipe(opened)
    recipe, moved = relocated(opened, recipe, known, Relocation(base, data))
    usage = ["export", str(run), str(out), "--format", format, *options]
    name, notes = one_adapter(opened, recipe, experiment, usage=usage)
    check_out(out)
    folder = opened.adapters / name
    adapter = read_adapter(folder)  # before the base, which takes longer
    _check_model(chosen, recipe, quantization, form)
    _report_memory(chosen, recipe, report)
    facts = adapter_facts(opened, name)
    if prompts is None:
        split, about_rows = run_rows(opened, recipe, known)
        examples = choose_rows(split, num_proof_rows(chosen, quantization))
    else:
        examples, about_rows = _given_rows(recipe, prompts, OF_RUN, report)
    with stop_on_signals(stop) as stop, staged_beside(out) as staged:
        bank, of_adapter = load_with_adapter(recipe, known, folder, name, examples)
        has_run_rows = prompts is None
        asked = ExportRequest(chosen, quantization, form, examples, out, staged, has_run_rows)
        notes = [*notes, *moved, *about_rows, *of_adapter]
        return write_export(bank, adapter, facts, asked, notes, report, stop)


def export_foreign(
    base: str | Path,
    adapter: str | Path,
    out: Path,
    *,
    format: str,
    quantization: str | None = None,
    adapter_only: bool = False,
    data: Path | None = None,
    prompts: Path | None = None,
    sets: Sequence[str] = (),
    report: Report = quiet,
    stop: StopRequest | None = None,
) -> ExportSummary:
    """Export an adapter that belongs to no run.

    Args:
        base: a folder, a hub name, or `starter`.
        adapter: a folder in PEFT's format.
        data: rows to verify with; without any rows, random tokens are used.
        prompts: like `data`, but known answers may be missing; only one of the two can be given.
        sets: settings of `data` and `generation`, each as `key=value`.
        out, format, quantization, adapter_only, report, stop: as in `export`.

    Raises:
        LoRALoomError: as in `export`.
        Interrupted: a stop was requested; nothing is left at `out`.
    """
    chosen, quantization, form = _chosen(format, quantization, adapter_only)
    if data is not None and prompts is not None:
        raise DataError(
            Message("`--data` cannot be combined with prompts"),
            where="export --adapter",
            fix=Message("Give only one of them."),
        )
    given = find_adapters(base, [adapter], data=data, sets=sets, merges=True)
    (name,) = given.folders
    check_out(out)
    _check_model(chosen, given.recipe, quantization, form)
    _report_memory(chosen, given.recipe, report)
    about_rows: list[str] = []
    if prompts is None:
        split = None if data is None else split_examples(given.recipe.data)
        examples = choose_rows(split, num_proof_rows(chosen, quantization))
        if split is None:
            about_rows.append(Message("no rows are given, so the proof uses random tokens"))
    else:
        examples, about_rows = _given_rows(given.recipe, prompts, OF_ADAPTERS, report)
    with stop_on_signals(stop) as stop, staged_beside(out) as staged:
        bank, adapters, of_adapter = attach(given.recipe, given.folders, TO_MERGE)
        facts = foreign_facts(given.recipe, name, adapters[name], bank.base)
        asked = ExportRequest(chosen, quantization, form, examples, out, staged, has_run_rows=False)
        notes = [*given.notes, *about_rows, *of_adapter]
        return write_export(bank, adapters[name], facts, asked, notes, report, stop)


def _given_rows(recipe: Recipe, file: Path, advice: str, report: Report) -> tuple[list[Example], list[str]]:
    """Read the user's rows for the proof; if there are too many, choose some and return a note about that."""
    rows = [to_answer(prompt) for prompt in prompts_in_files(recipe, file, report, advice)]
    chosen = spread(rows, MOST_PROOF_ROWS)
    if len(chosen) == len(rows):
        return chosen, []
    return chosen, [
        Message(
            "the proof uses {num_chosen} of the {num_rows:,} prompts",
            num_chosen=len(chosen),
            num_rows=len(rows),
        )
    ]


def _chosen(format: str, quantization: str | None, adapter_only: bool) -> tuple[Format, str, Form]:
    """Find a format, and check that it has the requested quantization and can store the requested form.

    The forms are an adapter alone, and the base and the adapter merged into one model.

    Raises:
        RecipeError: there is no such format or quantization, or the format always includes the base.
        ModelError: a package that writes the format is not installed.
    """
    chosen = FORMATS.get(format)
    if chosen is None:
        raise RecipeError(
            Message("is not an export format"), where="--format", found=format, allowed=", ".join(FORMATS)
        )
    rounded = chosen.quantizations[0] if quantization is None else quantization
    if rounded not in chosen.quantizations:
        raise RecipeError(
            Message("{title} has no such quantization", title=chosen.title),
            where="--quantization",
            found=rounded,
            allowed=", ".join(chosen.quantizations),
        )
    form: Form = "adapter" if adapter_only else chosen.forms[0]
    if form not in chosen.forms:
        raise RecipeError(
            Message("{title} always contains the base and the adapter in one model", title=chosen.title),
            where="--adapter-only",
            fix=Message("Leave the option out, or choose --format peft."),
        )
    if missing := chosen.missing(chosen.writes_with):
        raise ModelError(
            Message("{modules} is not installed", modules=", ".join(missing)),
            where=f"--format {format}",
            fix=Message("Install it: pip install 'loraloom[{extra}]'", extra=chosen.extra),
        )
    return chosen, rounded, form


def _check_model(chosen: Format, recipe: Recipe, quantization: str, form: Form) -> None:
    """Refuse, before the base is loaded, a model that the format cannot represent.

    Raises:
        ModelError: gives the reason; also if the base lacks a file that the format needs.
    """
    config = config_of(recipe)
    family = family_of(config.get("model_type"))
    if family is None:
        return  # loading says what is wrong with it
    if why := chosen.why_not(family, config, quantization, form):
        raise ModelError(
            Message(
                "cannot be exported to {title} in {quantization}",
                title=chosen.title,
                quantization=quantization,
            ),
            where=recipe.model_name_or_path,
            found=why,
            fix=Message("Choose another --format or --quantization."),
        )
    chosen.check_files(base_path(recipe))


def _report_memory(chosen: Format, recipe: Recipe, report: Report) -> None:
    """Report a note, before the base is loaded, if the export is predicted to need too much memory."""
    note = memory_note(base_path(recipe), is_merge=chosen.name == Transformers.name)
    if note is not None:
        report(Note(message=note))
