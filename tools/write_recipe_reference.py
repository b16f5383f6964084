"""Generate docs/recipe.md from the settings; a test verifies that it is up to date.

python tools/write_recipe_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loraloom.recipe import aliases as names
from loraloom.recipe.reading import recipe_schema
from loraloom.recipe.settings import DEFAULT_FROM

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipe.md"
HEAD = """# The recipe

A recipe is one YAML file that describes what to do. Inside its sections, the names are those of the field
(PEFT's `LoraConfig`, transformers' `TrainingArguments` and `GenerationConfig`), so that lines of a script can
be pasted; common aliases are resolved to them, and an unknown key is an error with a suggestion. Relative
paths start from the recipe's own folder. `--set section.key=value` sets a key for one call; `loraloom
recipe-schema` prints the JSON Schema for editors.

This page is generated from `settings.py` and `schema.py` in `loraloom/recipe/` by
`python tools/write_recipe_reference.py`.
"""
SECTIONS = {
    "data": "DataSettings",
    "lora": "LoraSettings",
    "training": "TrainingSettings",
    "generation": "GenerationSettings",
}
EXPERIMENTS = """
## experiments

Optional. Each experiment contains only what differs from the recipe, in `lora`, `training` and `seed`; all
train together on one base, in one pass.

    experiments:
      narrow: {lora: {target_modules: [q, v]}}
      slow: {training: {learning_rate: 1.0e-5}}
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page, as Markdown."""
    schema = recipe_schema()
    required = set(schema["required"])
    top = {key: value for key, value in schema["properties"].items() if key not in (*SECTIONS, "experiments")}
    parts = [HEAD, "\n## The recipe itself\n", table(top, required)]
    for name, definition in SECTIONS.items():
        section = schema["$defs"][definition]
        parts += [f"\n## {name}\n", table(section["properties"], set(section.get("required", [])))]
    return "\n".join([*parts, EXPERIMENTS, "## Aliases\n", aliases(), ""])


def table(properties: dict[str, Any], required: set[str]) -> str:
    """Format one line per setting."""
    rows = []
    for key, value in properties.items():
        usual = "required" if key in required else default(value)
        rows.append(f"| `{key}` | {usual} | {bounds(value)} | {value.get('description', '')} |")
    return "\n".join(["| key | default | allowed | description |", "|---|---|---|---|", *rows])


def default(value: dict[str, Any]) -> str:
    """Format a setting's default as YAML."""
    shown = value.get(DEFAULT_FROM, value.get("default", ""))
    if shown is None:
        return "–"
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`" if shown != "" else "empty"


def bounds(value: dict[str, Any]) -> str:
    """Format the allowed values of a setting."""
    options = value.get("anyOf", [value])
    return " or ".join(filter(None, (one_kind(option) for option in options if option.get("type") != "null")))


def one_kind(option: dict[str, Any]) -> str:
    """Format one of the allowed types of a setting."""
    if "enum" in option:
        return ", ".join(f"`{choice}`" for choice in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    words = kind.get(
        option.get("type", ""), {"array": "list", "object": "mapping"}.get(option.get("type", ""), "")
    )
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {option[key]:g}" for key, sign in signs.items() if key in option]
    return " ".join([words, ", ".join(limits)]).strip()


def aliases() -> str:
    """List every setting with aliases, and the aliases."""
    rows = [
        f"| `{key}` | {', '.join(f'`{alias}`' for alias in others.split())} |"
        for key, others in names.SETTING_ALIASES.items()
    ]
    return "\n".join(["| setting | other names |", "|---|---|", *rows])


if __name__ == "__main__":
    main()
