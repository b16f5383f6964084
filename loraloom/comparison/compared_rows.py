"""The rows of a comparison, determined before any model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from loraloom.data.files.part_files import PartContents
from loraloom.data.prompts.prompt_files import prompts_of_files
from loraloom.data.prompts.prompts import Prompt, prompts_of_texts, read_prompts
from loraloom.errors import DataError, LoRALoomError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Note, Report
from loraloom.run.folder import Run
from loraloom.session import provenance as origin
from loraloom.session.row_advice import OF_ADAPTERS, OF_RUN, advising
from loraloom.text.message import Message

SplitName = Literal["eval", "test"]


def prompts_asked(
    recipe: Recipe,
    split: SplitName | None,
    prompts: Sequence[str],
    prompts_file: Path | None,
    report: Report,
    advice: str = OF_RUN,
) -> list[Prompt]:
    """Read the rows that the user gives, before any model is loaded.

    Raises:
        DataError: `split` is not None, or a prompt or file is unusable.
    """
    if split is not None:
        raise DataError(
            Message("`--split` cannot be combined with prompts"), fix=Message("Give only one of them.")
        )
    with advising(advice):
        rows = prompts_of_texts(prompts, recipe.data)
    return rows if prompts_file is None else rows + prompts_in_files(recipe, prompts_file, report, advice)


def prompts_in_files(recipe: Recipe, file: Path, report: Report, advice: str) -> list[Prompt]:
    """Read rows from a file, a folder, or the files that a pattern matches, with their answers if any."""
    with advising(advice):
        return prompts_of_files(
            str(file),
            lambda path, name, findings: read_prompts(path, recipe.data, shown_as=name, findings=findings),
            lambda note: report(Note(message=note)),
        )


def rows_given(
    recipe: Recipe, data: Path | None, prompts: Sequence[str], prompts_file: Path | None, report: Report
) -> tuple[list[Prompt], str]:
    """Read the rows for a comparison without a run, and return them with their kind: `data` or `prompts`.

    Raises:
        DataError: neither data nor prompts are given, both are given, or a prompt or file is unusable.
    """
    has_prompts = bool(prompts) or prompts_file is not None
    if has_prompts == (data is not None):
        what: str = (
            Message("`--data` cannot be combined with prompts")
            if has_prompts
            else Message("a comparison without a run needs rows")
        )
        fix = Message("Give --data FILE with known answers, or --prompts FILE or --prompt TEXT.")
        raise DataError(what, where="compare --adapter", fix=fix)
    file, what = (prompts_file, "prompts") if data is None else (data, "data")
    return prompts_asked(recipe, None, prompts, file, report, OF_ADAPTERS), what


def retained_rows(
    run: Run, recipe: Recipe, known: Provenance, what: str, report: Report
) -> PartContents | None:
    """Read the rows to measure forgetting on; None if there are none.

    In a comparison of prompts, also return None, and report a note, if the rows cannot be read.
    """
    try:
        return origin.run_retained(run, recipe, known)
    except LoRALoomError as error:
        if what != "prompts":
            raise
        report(Note(message=Message("forgetting is not measured: {problems}", problems=error.problems[0])))
        return None


def rows_of_part(
    run: Run, recipe: Recipe, known: Provenance, split: SplitName | None
) -> tuple[list[Prompt], str]:
    """Return the rows and name of a part of the run's data; by default `test`, or `eval` if that is empty.

    Raises:
        DataError: the part has no rows.
    """
    parts = origin.run_split(run, recipe, known)
    part = split or ("test" if parts.test else "eval")
    examples = getattr(parts, part)
    if not examples:
        raise DataError(
            Message("the run has no {part} rows", part=part),
            where=str(run.folder),
            fix=Message("Give --prompt TEXT or --prompts FILE."),
        )
    prompts = [
        Prompt(
            e.source,
            e.response,
            e.path,
            e.row,
            e.parts,
            source_lang=e.source_lang,
            target_lang=e.target_lang,
        )
        for e in examples
    ]
    return prompts, part
