"""report: a run as one file to share. Neither torch nor the model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loraloom.errors import RecipeError, RunError
from loraloom.recipe.reading import read_run_recipe
from loraloom.report.comparison_view import STALE
from loraloom.report.content import Content, read_content
from loraloom.report.csv_and_json import render_csv, render_json
from loraloom.report.markdown import render_markdown
from loraloom.report.page import render_page
from loraloom.report.recommendation import commented, not_found, only, with_paths
from loraloom.run.atomic import replace_text
from loraloom.run.events import Note, Report, WarningNote, quiet
from loraloom.run.folder import Run, open_run
from loraloom.run.integrity import changed_files
from loraloom.run.lock import writing
from loraloom.session.provenance_file import read_provenance
from loraloom.text.message import Message


def render_recipe(content: Content, run: Run) -> str:
    """Return the recommended configuration as a recipe with absolute paths, so that it works in any folder.

    Raises:
        RunError: no configuration is recommended.
    """
    advice = content.advice
    if advice.experiment is None:
        raise RunError(
            Message("no configuration is recommended over the others"),
            where=str(run.folder),
            found=advice.sentence,
            fix=""
            if advice.sentence
            else Message("Run `loraloom compare {folder}` to determine which is better.", folder=run.folder),
        )
    recipe = read_run_recipe(run.recipe_file).in_folder(Path(read_provenance(run).folder))
    own = only(recipe, advice.experiment)
    lost = not_found(own)
    return commented(with_paths(own), advice.sentence, *([lost] if lost else []))


FORMATS: dict[str, Callable[[Content, Run], str]] = {
    "html": lambda content, _: render_page(content),
    "md": lambda content, _: render_markdown(content),
    "json": lambda content, _: render_json(content),
    "csv": lambda content, _: render_csv(content),
    "recipe": render_recipe,
}
FILES = {format: f"report.{format}" for format in FORMATS} | {"recipe": "recommended.yaml"}
# Spreadsheets need this mark to read a CSV file as UTF-8; without it, they garble Chinese.
BYTE_ORDER_MARK = "\ufeff"
# Formats that contain no rows of the data.
WITHOUT_ROWS = ("recipe",)


def render_report(run: Path, format: str = "html", compare_name: str | None = None) -> str:
    """Return the text of the report.

    Args:
        run: the run directory; the run may be unfinished, and needs no comparison.
        format: `html`, `md`, `json` or `csv`; `recipe` is only the recommended configuration.
        compare_name: comparison to show; by default the one of the test rows, or else of the eval rows, or
            else of prompts.

    Raises:
        LoRALoomError: the format is unknown, or `run` is not a run, has no such comparison, or is damaged.
    """
    return _renderer(format)(read_content(run, compare_name), open_run(run))


def _renderer(format: str) -> Callable[[Content, Run], str]:
    if format not in FORMATS:
        raise RecipeError(Message("is unknown"), where="--format", found=format, allowed=", ".join(FORMATS))
    return FORMATS[format]


def write_report(
    run: Path,
    format: str = "html",
    out: Path | None = None,
    compare_name: str | None = None,
    report: Report = quiet,
) -> Path:
    """Write the report atomically.

    Args:
        run, format, compare_name: as in `render_report`.
        out: the file; by default `report.<format>` in the run directory, or `recommended.yaml` there for
            the format `recipe`.
        report: called with notes.

    Returns:
        The path of the file.

    Raises:
        LoRALoomError: as in `render_report`, or the file cannot be written.
    """
    render = _renderer(format)
    path = run / FILES[format] if out is None else out
    if out is None:
        open_run(run)  # otherwise the message would name its parent folder
    if path.is_dir():
        raise RunError(
            Message("is a folder"),
            where=str(path),
            fix=Message("Give a file: --out {path}", path=path / FILES[format]),
        )
    if not path.parent.is_dir():
        raise RunError(
            Message("cannot be written, because its folder does not exist"),
            where=str(path),
            fix=Message("Create the folder first: mkdir -p {parent}", parent=path.parent),
        )
    try:
        with writing(path, doing=Message("is writing this report")):
            content = read_content(run, compare_name)
            text = render(content, open_run(run))
            replace_text(path, (BYTE_ORDER_MARK if format == "csv" else "") + text)
    except OSError as error:
        raise RunError(
            Message("cannot be written: {strerror}", strerror=error.strerror), where=str(path)
        ) from None
    for name in [name for name in changed_files(open_run(run)) if "/" not in name]:
        what = Message("has changed since the run wrote it, so the report may not show the original figures")
        report(WarningNote(message=Message("{name} {what}", name=name, what=what)))
    if format in WITHOUT_ROWS or content.is_range_test:
        return path
    if any(each.is_stale for each in (content.comparison, *content.prompts) if each is not None):
        report(WarningNote(message=STALE))
    for notice in content.notices:
        report(WarningNote(message=notice))
    if content.comparison is None:
        report(
            Note(
                message=Message(
                    "the report contains no answers yet; `loraloom compare {run}` generates them", run=run
                )
            )
        )
    else:
        report(Note(message=Message("{path} contains rows of your data; share it with care", path=path)))
    return path
