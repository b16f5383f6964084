"""Arguments and options shared by several commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from loraloom.text.message import Message

# Options whose value may be omitted: the default value, and a pattern of the allowed values.
OPTIONAL_VALUES = {"--ray": ("auto", re.compile(r"auto|local|(ray://)?[^\s/:]+:\d+"))}


def _known_checks(names: list[str]) -> list[str]:
    """Refuse a name that no check has, or the name of a check whose errors cannot be allowed."""
    for name in names:
        from loraloom.checks.allowances import why_not_allowable  # imports every data check

        if reason := why_not_allowable(name):
            raise typer.BadParameter(reason)
    return names


RecipeFile = Annotated[
    str, typer.Argument(help=Message("A YAML file of a recipe, or the name of a built-in recipe."))
]
RecipeOrNone = Annotated[
    str | None,
    typer.Argument(
        help=Message(
            "A YAML file of a recipe, or the name of a built-in recipe; `train` may omit it with "
            "--resume, and `search` with --join."
        )
    ),
]
RunOrNone = Annotated[
    Path | None, typer.Argument(help=Message("A run directory; omitted with --adapter."), show_default=False)
]
Adapters = Annotated[
    list[str],
    typer.Option(
        "--adapter",
        metavar="[NAME=]FOLDER",
        help=Message("An adapter that belongs to no run, for the base in --base; can be repeated."),
    ),
]
OneAdapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="[NAME=]FOLDER",
        help=Message("An adapter that belongs to no run, for the base in --base; RUN is then omitted."),
    ),
]
AdapterBase = Annotated[
    Path | None,
    typer.Option("--base", metavar="FOLDER", help=Message("With --adapter: the base of the adapter.")),
]
AnswerSets = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=Message(
            "With --adapter: a key of `generation` or `data`, as in a recipe, or dtype, device, seed."
        ),
    ),
]
MergeSets = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=Message(
            "With --adapter: a key of `generation` or `data`, as in a recipe. Merging is done in "
            "float32 on the CPU; --dtype sets the dtype of the new folder."
        ),
    ),
]
OneExperiment = Annotated[
    str | None,
    typer.Option(
        help=Message("The adapter's experiment, such as main, or main@42 if there are several seeds.")
    ),
]
SourceLang = Annotated[
    str | None,
    typer.Option(
        metavar="CODE",
        help=Message("With a multilingual base: the language of the rows, if not the one in training."),
    ),
]
TargetLang = Annotated[
    str | None,
    typer.Option(metavar="CODE", help=Message("With a multilingual base: the language to answer in.")),
]
RunFolder = Annotated[Path, typer.Argument(help=Message("A run directory."))]
NewRun = Annotated[
    Path | None, typer.Option(help=Message("The run directory to create; by default a new one below runs/."))
]
Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help=Message("Set a key of the recipe."))
]
OnRay = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help=Message(
            "Train on the workers of a Ray cluster: HOST:PORT, ray://HOST:PORT or `local`; without an "
            "address, the cluster of this machine, or a new one."
        ),
    ),
]
RayCpus = Annotated[
    int | None,
    typer.Option(
        min=1,
        help=Message(
            "With --ray: CPUs of each worker; by default all CPUs of its node, or its GPU's share of them."
        ),
    ),
]
SendFiles = Annotated[
    bool,
    typer.Option(
        "--send-files",
        help=Message(
            "With --ray: send the base and the data to the workers; needed if they do not have them at the "
            "same paths."
        ),
    ),
]
ToResume = Annotated[
    Path | None,
    typer.Option(
        help=Message("The run to resume, instead of creating a new one; `search` accepts more --trials.")
    ),
]
MovedBase = Annotated[
    Path | None,
    typer.Option(
        "--base",
        metavar="FOLDER",
        help=Message(
            "The current folder of the run's base, if it was moved, or owner/name@revision on the hub; it "
            "must be unchanged. With --adapter: the base."
        ),
    ),
]
MovedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="PATH",
        help=Message(
            "The current folder (or single file) of the run's data, if it was moved; it must be "
            "unchanged. With --adapter: a file of rows."
        ),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help=Message("Print one JSON document to stdout."))]
Allow = Annotated[
    list[str],
    typer.Option(
        "--allow",
        metavar="CHECK",
        callback=_known_checks,
        help=Message("Continue despite errors from this check, and record that in the run; can be repeated."),
    ),
]
Sampler = Annotated[
    str | None, typer.Option(help=Message("How to choose trials: tpe (by default), random or grid."))
]
