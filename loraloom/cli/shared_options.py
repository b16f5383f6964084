"""Arguments and options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _known_checks(names: list[str]) -> list[str]:
    """Refuse a name that is no check, or one whose errors cannot be allowed."""
    for name in names:
        from loraloom.checks.allowances import why_not_allowable  # and every check of the data with it

        if reason := why_not_allowable(name):
            raise typer.BadParameter(reason)
    return names


RecipeFile = Annotated[str, typer.Argument(help="A recipe's YAML file, or the name of one that comes along.")]
RunFolder = Annotated[Path, typer.Argument(help="A run directory.")]
NewRun = Annotated[Path | None, typer.Option(help="The run directory; by default a new one below runs/.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Set a key of the recipe.")]
MovedBase = Annotated[
    Path | None,
    typer.Option(
        "--base", metavar="FOLDER", help="Where the run's base is now, if it was moved; it must be the same."
    ),
]
MovedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help="The folder, or the one file, where the run's data is now, if it was moved; unchanged.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Allow = Annotated[
    list[str],
    typer.Option(
        "--allow",
        metavar="CHECK",
        callback=_known_checks,
        help="Go on in spite of this check's errors; recorded in the run. Several times.",
    ),
]
