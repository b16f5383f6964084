"""Generate docs/recipe.md and docs/recipe.zh.md from the settings; a test verifies that they are up to date.

python tools/write_recipe_reference.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from loraloom.recipe import aliases as names
from loraloom.recipe.reading import recipe_schema
from loraloom.recipe.settings import DEFAULT_FROM
from loraloom.text.language import catalogue_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
SECTIONS = {
    "data": "DataSettings",
    "lora": "LoraSettings",
    "training": "TrainingSettings",
    "generation": "GenerationSettings",
}
EXPERIMENTS = """\
    experiments:
      narrow: {lora: {target_modules: [q, v]}}
      slow: {training: {learning_rate: 1.0e-5}}
"""


class Words(NamedTuple):
    """What the page says beside the settings, in one language.

    Args:
        file: the page's name.
        language: whose catalogue has the descriptions of the settings.
        head: the text before the settings.
        itself: the heading of the settings in no section.
        columns: the head of the tables of settings.
        experiments: the text before the example of experiments.
        aliases: the heading of the aliases.
        alias_columns: the head of their table.
        required, empty: instead of a default.
        either: between kinds of values.
        kinds: the names of JSON's types.
    """

    file: str
    language: str
    head: str
    itself: str
    columns: str
    experiments: str
    aliases: str
    alias_columns: str
    required: str
    empty: str
    either: str
    kinds: dict[str, str]


ENGLISH = Words(
    file="recipe.md",
    language="en",
    head="""# The recipe

[中文](recipe.zh.md)

A recipe is one YAML file that describes what to do. Inside its sections, the names are those of the field
(PEFT's `LoraConfig`, transformers' `TrainingArguments` and `GenerationConfig`), so that lines of a script can
be pasted; common aliases are resolved to them, and an unknown key is an error with a suggestion. Relative
paths start from the recipe's own folder. `--set section.key=value` sets a key for one call; `loraloom
recipe-schema` prints the JSON Schema for editors.

This page is generated from `settings.py` and `schema.py` in `loraloom/recipe/` by
`python tools/write_recipe_reference.py`.
""",
    itself="The recipe itself",
    columns="| key | default | allowed | description |",
    experiments="""\
Optional. Each experiment contains only what differs from the recipe, in `lora`, `training` and `seed`; all
train together on one base, in one pass.
""",
    aliases="Aliases",
    alias_columns="| setting | other names |",
    required="required",
    empty="empty",
    either=" or ",
    kinds={
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "`true`, `false`",
        "array": "list",
        "object": "mapping",
    },
)
CHINESE = Words(
    file="recipe.zh.md",
    language="zh",
    head="""# 配方

[English](recipe.md)

配方是一个 YAML 文件，描述要做什么。各节中的名称就是这个领域通用的名称（PEFT 的 `LoraConfig`，
transformers 的 `TrainingArguments` 和 `GenerationConfig`），因此脚本中的行可以直接粘贴过来；常见的别名会换成
这些名称，未知的键是错误，并附有建议。相对路径相对于配方所在的文件夹。`--set section.key=value` 为一次调用设置
一个键；`loraloom recipe-schema` 打印供编辑器使用的 JSON Schema。

本页由 `python tools/write_recipe_reference.py` 根据 `loraloom/recipe/` 中的 `settings.py` 和
`schema.py` 生成。
""",
    itself="配方本身",
    columns="| 键 | 默认值 | 允许 | 说明 |",
    experiments="""\
可以省略。每个实验只写与配方不同之处，在 `lora`、`training` 和 `seed` 中；所有实验在同一个基座上、在同一遍里
一起训练。
""",
    aliases="别名",
    alias_columns="| 设置 | 别名 |",
    required="必需",
    empty="空",
    either="或",
    kinds={
        "integer": "整数",
        "number": "数",
        "string": "文本",
        "boolean": "`true`, `false`",
        "array": "列表",
        "object": "映射",
    },
)
PAGES = (ENGLISH, CHINESE)


def main() -> None:
    """Write the pages."""
    for words in PAGES:
        (DOCS / words.file).write_text(page(words), encoding="utf-8")


def page(words: Words) -> str:
    """The whole page, as Markdown."""
    schema = recipe_schema()
    required = set(schema["required"])
    top = {key: value for key, value in schema["properties"].items() if key not in (*SECTIONS, "experiments")}
    parts = [words.head, f"\n## {words.itself}\n", table(top, required, words)]
    for name, definition in SECTIONS.items():
        section = schema["$defs"][definition]
        parts += [f"\n## {name}\n", table(section["properties"], set(section.get("required", [])), words)]
    experiments = f"\n## experiments\n\n{words.experiments}\n{EXPERIMENTS}"
    return "\n".join([*parts, experiments, f"## {words.aliases}\n", aliases(words), ""])


def table(properties: dict[str, Any], required: set[str], words: Words) -> str:
    """Format one line per setting."""
    rows = []
    for key, value in properties.items():
        usual = words.required if key in required else default(value, words)
        rows.append(f"| `{key}` | {usual} | {bounds(value, words)} | {description(value, words)} |")
    return "\n".join([words.columns, "|---|---|---|---|", *rows])


def description(value: dict[str, Any], words: Words) -> str:
    """Return what a setting is for; the id of a translation has its braces doubled."""
    template = value.get("description", "").replace("{", "{{").replace("}", "}}")
    translated = catalogue_of(words.language).gettext(template) if template else ""
    return translated.replace("{{", "{").replace("}}", "}")


def default(value: dict[str, Any], words: Words) -> str:
    """Format a setting's default as YAML."""
    shown = value.get(DEFAULT_FROM, value.get("default", ""))
    if shown is None:
        return "–"
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`" if shown != "" else words.empty


def bounds(value: dict[str, Any], words: Words) -> str:
    """Format the allowed values of a setting."""
    options = value.get("anyOf", [value])
    kinds = (one_kind(option, words) for option in options if option.get("type") != "null")
    return words.either.join(filter(None, kinds))


def one_kind(option: dict[str, Any], words: Words) -> str:
    """Format one of the allowed types of a setting."""
    if "enum" in option:
        return ", ".join(f"`{choice}`" for choice in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {option[key]:g}" for key, sign in signs.items() if key in option]
    return " ".join([words.kinds.get(option.get("type", ""), ""), ", ".join(limits)]).strip()


def aliases(words: Words) -> str:
    """List every setting with aliases, and the aliases."""
    rows = [
        f"| `{key}` | {', '.join(f'`{alias}`' for alias in others.split())} |"
        for key, others in names.SETTING_ALIASES.items()
    ]
    return "\n".join([words.alias_columns, "|---|---|", *rows])


if __name__ == "__main__":
    main()
