"""Commands before training: init, check, find-lr, recipe-schema."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loraloom.cli.shared_options import Allow, AsJson, RecipeFile, Sets
from loraloom.cli.verb_steps import command, displayed, importing, print_json, read, split_recipe_data
from loraloom.scripts.script_source import is_script
from loraloom.text.message import Message

if TYPE_CHECKING:
    from loraloom.checks.finding import Finding
    from loraloom.console import Display
    from loraloom.data.splitting.split import Split
    from loraloom.recipe import Recipe
    from loraloom.run.documents.range_test import RangeTest


def init(
    data: Annotated[
        list[Path], typer.Argument(help=Message("Files of instruction/response pairs, or a folder of them."))
    ],
    model: Annotated[str, typer.Option(help=Message("A folder, a hub name, or `starter`."))] = "starter",
    columns: Annotated[
        list[str],
        typer.Option(
            metavar="ROLE=COLUMN",
            help=Message(
                "The role of a column that is not recognised; can be repeated: instruction=…, response=…."
            ),
        ),
    ] = [],  # noqa: B006
    sets: Sets = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Examine data files and write a commented recipe for them to stdout."""
    from loraloom.commands.init import init_recipe
    from loraloom.console import put

    with displayed(as_json) as display:
        text = init_recipe(data, model, columns=columns, sets=sets, report=display)
        if as_json:
            print_json({"recipe": text})
        else:
            put(text)
        display.next_command(Message("loraloom check recipe.yaml"))


def check(
    recipe: Annotated[
        str,
        typer.Argument(
            help=Message(
                "A YAML file of a recipe, the name of a built-in recipe, or a script or notebook for PEFT "
                "and the Trainer (.py, .ipynb), which is read but not run."
            )
        ),
    ],
    sets: Sets = [],  # noqa: B006 (typer copies it)
    allow: Allow = [],  # noqa: B006
    data_only: Annotated[
        bool, typer.Option("--data-only", help=Message("Run only the data checks, without loading a model."))
    ] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help=Message("Try eight learning rates in one pass."))
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help=Message("Also overfit one batch, or report what prevents it; then run --find-lr.")
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help=Message(
                "The folder for the results of --find-lr, by default below runs/; for a script, the "
                "file to write its recipe to."
            )
        ),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help=Message("Also show passed checks in full."))
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run the real model on real rows for a few seconds, and report what would go wrong."""
    if is_script(recipe):
        given = {
            "--set": sets,
            "--allow": allow,
            "--data-only": data_only,
            "--find-lr": find_lr,
            "--deep": deep,
        }
        refused = [option for option, value in given.items() if value]
        if refused:
            raise typer.BadParameter(
                Message(
                    "{option} can only be used with a recipe; a script is read but not run",
                    option=", ".join(refused),
                )
            )
        _check_script(Path(recipe), out, show_all=show_all, as_json=as_json)
        return
    if data_only and (find_lr or deep):
        option = "--find-lr" if find_lr else "--deep"
        raise typer.BadParameter(
            Message("--data-only cannot be combined with {option}, which trains", option=option)
        )
    if out is not None and not (find_lr or deep):
        raise typer.BadParameter(Message("--out requires --find-lr or --deep, whose results it stores"))
    with displayed(as_json) as display:
        settings = read(recipe, sets, display)
        split = split_recipe_data(settings, allow, display)
        from loraloom.console import print_batch, print_findings

        document: dict[str, object] = {}
        rate: float | None = None
        if data_only:
            from loraloom.session.data_only import check_data_only

            findings = check_data_only(settings, split, allow)
        else:
            with importing():
                from loraloom.commands.check import examine

            checked = examine(settings, split=split, allowed=allow, deep=deep, report=display)
            findings = checked.findings
            document["batch"] = [view.to_json() for view in checked.batch]
            if not as_json:
                print_batch(checked.batch)
        document["findings"] = [finding.to_json() for finding in findings]
        if not as_json:
            print_findings(findings, show_all=show_all)
        has_errors = any(finding.level == "error" for finding in findings)
        if (find_lr or (deep and split.eval)) and not has_errors:
            tried = _range_test(settings, out, split, display, findings=findings)
            document["range_test"], rate = tried.to_json(), tried.suggestion
        if as_json:
            print_json(document)
        if has_errors:
            raise typer.Exit(1)
        found = [] if rate is None else [f"training.learning_rate={rate:g}"]
        options = [word for name in allow for word in ("--allow", name)]
        options += [word for key in (*sets, *found) for word in ("--set", key)]
        display.next_command(command("check" if data_only else "train", recipe, *options))


def _check_script(script: Path, out: Path | None, *, show_all: bool, as_json: bool) -> None:
    """Check a script or notebook, and print its recipe or write it to a file."""
    from loraloom.console import print_findings, put
    from loraloom.scripts.script_report import check_script, write_new

    with displayed(as_json) as display:
        checked = check_script(script)
        if out is not None:
            write_new(out, checked.recipe)
        if as_json:
            print_json(checked.to_json())
        else:
            print_findings(checked.findings, show_all=show_all)
            if out is None:
                put(f"\n{checked.recipe}")
        if checked.has_errors:
            raise typer.Exit(1)
        display.next_command(command("check", "recipe.yaml" if out is None else out))


def find_lr(
    recipe: RecipeFile,
    sets: Sets = [],  # noqa: B006
    allow: Allow = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help=Message("The folder for the results; by default below runs/."))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try eight learning rates in one pass, after the data checks, and suggest one."""
    with displayed(as_json) as display:
        settings = read(recipe, sets, display)
        split = split_recipe_data(settings, allow, display)
        found = _range_test(settings, out, split, display, allowed=allow)
        if as_json:
            print_json(found.to_json())
        rate = found.suggestion
        words = [word for name in allow for word in ("--allow", name)]
        words += [word for key in sets for word in ("--set", key)]
        words += [] if rate is None else ["--set", f"training.learning_rate={rate:g}"]
        display.next_command(command("train", recipe, *words))


def _range_test(
    recipe: Recipe,
    out: Path | None,
    split: Split,
    display: Display,
    *,
    findings: Sequence[Finding] | None = None,
    allowed: Collection[str] = (),
) -> RangeTest:
    """Try eight learning rates, show the results, and return them."""
    with importing():
        from loraloom.commands.find_lr import find_learning_rate
    from loraloom.console import print_range_test

    found = find_learning_rate(
        recipe, out=out, split=split, findings=findings, allowed=allowed, report=display
    )
    display.close()
    if not display.is_quiet:
        print_range_test(found)
        display.say(
            Message(
                "the results are stored in {run}; `loraloom report {run}` shows them as a page", run=found.run
            )
        )
    return found


def recipe_schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from loraloom.recipe.reading import recipe_schema as schema

    print_json(schema())
