"""The report of `check SCRIPT`: what will go wrong in the script, and the equivalent recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loraloom.errors import DataError, RecipeError
from loraloom.run.atomic import replace_text
from loraloom.run.documents.checks import Finding
from loraloom.scripts.facts import Facts
from loraloom.scripts.script import Script
from loraloom.scripts.script_recipe import recipe_of
from loraloom.scripts.script_suite import check_facts
from loraloom.text.message import Message
from loraloom.text.visible import printable


@dataclass(frozen=True)
class ScriptReport:
    """What was found in a script.

    Args:
        findings: findings of all checks, and what could not be read or expressed in the recipe.
        recipe: the equivalent recipe as YAML; comments give the location of each setting in the script.
    """

    findings: list[Finding]
    recipe: str

    @property
    def has_errors(self) -> bool:
        """Whether the script would end in an error, or train something other than intended."""
        return any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return findings and recipe as a JSON document."""
        return {"findings": [finding.to_json() for finding in self.findings], "recipe": self.recipe}


def check_script(path: Path) -> ScriptReport:
    """Read a script or notebook, without running or importing it, and report what will go wrong in it.

    Raises:
        DataError: the file cannot be read, is not Python, or trains no model of the transformers library.
    """
    script = Script.of_file(path)
    facts = Facts(script, path.parent)
    if not facts.model_calls and facts.lora is None and facts.arguments is None and facts.trainer is None:
        raise DataError(
            Message(
                "the script does not load a model with `from_pretrained` and has no LoraConfig and no "
                "Trainer, so there is nothing to check"
            ),
            where=script.source.name,
        )
    recipe = recipe_of(facts)
    return ScriptReport([*check_facts(facts), *recipe.findings], recipe.text)


def write_new(file: Path, recipe: str) -> None:
    """Write a recipe to a file that does not exist yet.

    Raises:
        RecipeError: the file exists, or cannot be written.
    """
    name = printable(str(file), 200)
    if file.exists():
        raise RecipeError(
            Message("the file already exists and is not overwritten"),
            where=name,
            fix=Message("Choose another name for --out."),
        )
    try:
        replace_text(file, recipe)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecipeError(Message("cannot be written: {reason}", reason=reason), where=name) from None
