"""Drafts of new runs: uploaded data files and a recipe, in folders below `RUNS/.pages/drafts`."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from loraloom import api
from loraloom.data.files.location import locate
from loraloom.data.preview import Preview, preview_files
from loraloom.errors import LoRALoomError, Problem, RunError
from loraloom.recipe import DataSettings, Recipe
from loraloom.recipe.reading import parse_recipe_with_notes
from loraloom.recipe.relative_paths import Locations
from loraloom.run.atomic import replace_text
from loraloom.run.events import Event, Note, WarningNote
from loraloom.text.message import Message, mapped
from loraloom.web.pages.jobs import PAGES_FOLDER

RECIPE = "recipe.yaml"
MODEL = "model.txt"
LONGEST_NAME = 100
CHUNK = 1 << 20
# Characters that are not word characters of any script, or are special in a shell or path.
_UNSAFE = re.compile(r"[^\w.\-]+")


@dataclass(frozen=True)
class Draft:
    """A run that is being prepared.

    Args:
        folder: folder with its data files and its recipe.
    """

    folder: Path

    @property
    def id(self) -> str:
        """Id of the draft, which is the name of its folder."""
        return self.folder.name

    @property
    def files(self) -> list[str]:
        """Names of the draft's data files."""
        others = {RECIPE, MODEL}
        return sorted(
            path.name for path in self.folder.iterdir() if path.is_file() and path.name not in others
        )

    @property
    def recipe_file(self) -> Path:
        """Path of the draft's recipe, which may not exist yet."""
        return self.folder / RECIPE

    @property
    def model(self) -> str:
        """The base that was chosen when the files were uploaded."""
        return (self.folder / MODEL).read_text(encoding="utf-8")

    def recipe(self) -> str:
        """Return the draft's recipe as YAML; "" if there is none yet."""
        return self.recipe_file.read_text(encoding="utf-8") if self.recipe_file.is_file() else ""

    def save_recipe(self, text: str) -> None:
        """Replace the draft's recipe."""
        replace_text(self.recipe_file, text.replace("\r\n", "\n"))


@dataclass(frozen=True)
class Proposal:
    """Result of examining the data files of a draft.

    Args:
        recipe: proposed recipe as YAML; "" if the files are not usable as they are.
        problems: what is wrong with the files.
        notes: notes for the user on what was accepted.
        preview: rows and lengths; None if the files are not usable.
    """

    recipe: str
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    preview: Preview | None


@dataclass(frozen=True)
class Drafts:
    """The drafts of a folder of runs."""

    runs: Path

    @property
    def folder(self) -> Path:
        """The folder that contains the folders of all drafts."""
        return self.runs / PAGES_FOLDER / "drafts"

    def all(self) -> list[Draft]:
        """List the drafts, newest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if (path / MODEL).is_file()]
        return [Draft(path) for path in sorted(found, key=lambda path: -path.stat().st_mtime_ns)]

    def find(self, id: str) -> Draft | None:
        """Return the draft with this id; the id is looked up, never joined to a path."""
        return next((draft for draft in self.all() if draft.id == id), None)

    def create(self, files: Sequence[tuple[str, BinaryIO]], model: str) -> Draft:
        """Store uploaded files as a draft, each under its name without unsafe characters.

        Raises:
            RunError: the files cannot be written.
        """
        own = self.folder / secrets.token_hex(8)
        try:
            own.mkdir(parents=True, mode=0o700)
            for name, content in files:
                with (own / _free_name(own, name)).open("xb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
            (own / MODEL).write_text(model, encoding="utf-8")
        except OSError as error:
            shutil.rmtree(own, ignore_errors=True)
            raise RunError(
                Message("the files cannot be stored: {reason}", reason=error.strerror or str(error)),
                where=str(self.folder),
            ) from None
        return Draft(own)

    def discard(self, draft: Draft) -> None:
        """Remove a draft and its files."""
        shutil.rmtree(draft.folder, ignore_errors=True)


def _free_name(folder: Path, name: str) -> str:
    """Return a safe form of a file name, distinct from the folder's files and the draft's own."""
    last = re.split(r"[/\\]", name)[-1]
    plain = _UNSAFE.sub("-", last).lstrip(".-")[-LONGEST_NAME:].lstrip(".-") or "data"
    if plain in (RECIPE, MODEL):
        plain = f"data-{plain}"
    number, free = 1, plain
    while (folder / free).exists():
        number += 1
        free = f"{number}-{plain}"
    return free


def propose(draft: Draft, model: str, columns: dict[str, str], settings: str = "") -> Proposal:
    """Examine the data files of a draft as `loraloom init` does.

    Args:
        model: base of the recipe.
        columns: role → column, if the columns are not recognised.
        settings: data settings as lines of YAML, such as `data.encoding: gb18030`.
    """
    notes: list[str] = []

    def report(event: Event) -> None:
        if isinstance(event, Note | WarningNote):
            notes.append(_without_folder(event.message, draft))

    paths = [draft.folder / name for name in draft.files]
    try:
        text = api.init(paths, model, columns=columns, sets=_as_options(settings), report=report)
    except LoRALoomError as error:
        problems = tuple(
            _without_folder(_for_the_page(problem).as_message(), draft) for problem in error.problems
        )
        return Proposal("", problems, tuple(notes), None)
    text = _with_own_names(text, draft)
    preview = preview_of(draft, parse_recipe_with_notes(text, name=Path(RECIPE).name).recipe.data)
    return Proposal(text, (), tuple(notes), preview)


def _as_options(settings: str) -> list[str]:
    """Convert lines `data.KEY: VALUE` to values of `--set`; a line may also be `data.KEY=VALUE`."""
    lines = filter(None, map(str.strip, settings.splitlines()))
    return [re.sub(r"^([\w.]+)\s*[:=]\s*", r"\1=", line) for line in lines]


def _for_the_page(problem: Problem) -> Problem:
    """Replace instructions for the terminal with those for the page, and `--set KEY` with just the key."""
    where = problem.where.removeprefix("--set ")
    if "loraloom init" not in problem.fix:
        return replace(problem, where=where)
    return replace(
        problem, where=where, fix=Message("Enter the columns of the question and of the answer below.")
    )


def preview_of(draft: Draft, settings: DataSettings) -> Preview | None:
    """Return a preview of the first training rows; None if the files are not usable."""
    names = [str(draft.folder / name) for name in draft.files]
    try:
        return preview_files(locate("train", names, Locations()).files, settings)
    except LoRALoomError:  # the problem was reported when the recipe was proposed
        return None


def _with_own_names(text: str, draft: Draft) -> str:
    """Remove the draft's folder from the paths in a recipe, unless it would then name other files."""
    plain = text.replace(f"{draft.folder}/", "")
    try:
        train = parse_recipe_with_notes(plain, name=Path(RECIPE).name).recipe.data.train
    except LoRALoomError:
        return text
    named = [train] if isinstance(train, str) else list(train)
    return plain if sorted(named) == draft.files else text


def _without_folder(text: str, draft: Draft) -> str:
    changed: str = mapped(text, lambda part: part.replace(f"{draft.folder}/", ""))
    return changed


@dataclass(frozen=True)
class LineProblem:
    """A problem with a recipe, or a note on it.

    Args:
        line: number of the line concerned, from 1; None if the problem is not about one line.
        message: what is wrong, or the note.
        is_note: whether it is only a note.
    """

    line: int | None
    message: str
    is_note: bool = False


def read_typed_recipe(text: str) -> tuple[Recipe | None, list[LineProblem]]:
    """Read a recipe that is being typed; return the recipe (None if invalid), and its problems and notes."""
    try:
        reading = parse_recipe_with_notes(text, name=Path(RECIPE).name)
    except LoRALoomError as error:
        return None, [_line_problem(each) for each in error.problems]
    notes = [_line_problem(Problem(note.what, note.where), is_note=True) for note in reading.notes]
    return reading.recipe, notes


def _line_problem(problem: Problem, *, is_note: bool = False) -> LineProblem:
    """Convert a problem to a `LineProblem`; if its line is known, the message does not repeat it."""
    found = re.search(r":(\d+)$", problem.where)
    line = int(found[1]) if found else None
    said = problem if line is None else replace(problem, where="")
    return LineProblem(line, said.as_message(), is_note)
