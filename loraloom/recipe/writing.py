"""Writing recipes: as YAML, as a JSON Schema, and with comments for `loraloom init`."""

from __future__ import annotations

import copy
import math
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic.json_schema import JsonSchemaValue

from loraloom.recipe.data_settings import LANGUAGE_KEYS, DataSettings
from loraloom.recipe.lora_settings import VARIANT_KEYS, LoraSettings
from loraloom.recipe.relative_paths import Section
from loraloom.recipe.schema import UNQUANTIZED, Recipe
from loraloom.recipe.settings import DEFAULT_FROM, TrainingSettings
from loraloom.recipe.shared_training import SHARED_TRAINING_KEYS
from loraloom.recipe.yaml_tree import resolve
from loraloom.text.catalogue import rendered
from loraloom.text.line_breaks import lines_of
from loraloom.text.message import Message, joined
from loraloom.text.visible import printable

_WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Dumper of plain YAML that our reader (YAML 1.2) and PyYAML (1.1) read alike."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", number(value))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 reads as a number; `1e-4` is one only in 1.2. It also folds at breaks such
    # as U+0085, which would be read back as spaces; in double quotes they are escaped.
    style = '"' if not value.isprintable() else None if isinstance(resolve(value), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: _Dumper, value: list[Any]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def number(value: float) -> str:
    """Format a float so that every YAML reader recognises it: PyYAML needs a point before the exponent.

    >>> number(1e-5), number(9.65e-7), number(32.0)
    ('1.0e-5', '9.65e-7', '32.0')
    """
    mantissa, e, exponent = repr(value).partition("e")
    if not e:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"


def _dump(value: Any) -> str:
    return yaml.dump(
        value, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=False, width=math.inf
    )


def write_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML, including defaults; reading it gives an equal recipe.

    Only the settings for languages, LoRA variants and quantization are omitted if they have their default
    values, because most bases are neither multilingual nor quantized, and most adapters are plain LoRA.
    """
    values = recipe.model_dump()
    if recipe.quantization == UNQUANTIZED:
        del values["quantization"]
    for name, section, keys in (
        ("data", DataSettings, LANGUAGE_KEYS),
        ("lora", LoraSettings, VARIANT_KEYS),
    ):
        for key in keys:
            default = section.model_fields[key].get_default(call_default_factory=True, validated_data={})
            if values[name][key] == default:
                del values[name][key]
    return _dump(values)


def write_settings(recipe: Recipe, comments: Mapping[tuple[str, ...], str]) -> str:
    """Write some settings of a recipe as YAML, each followed by a comment.

    Args:
        recipe: the recipe.
        comments: the settings to write, by their canonical paths, with their comments; if several paths
            lead to parts of one setting, such as `data.columns`, only the first comment is written.
    """
    said: dict[tuple[str, ...], str] = {}
    for path, comment in comments.items():
        said.setdefault(path[:2] if path[0] in _sections() else path[:1], comment)
    values, text = recipe.model_dump(), ""
    for key in Recipe.model_fields:
        if (key,) in said:
            text += _commented({key: values[key]}, said[key,])
        inner = [path for path in said if path[0] == key and len(path) == 2]
        if inner:
            text += f"{key}:\n"
        for name in [name for name in values[key] if (key, name) in inner] if inner else ():
            text += textwrap.indent(_commented({name: values[key][name]}, said[key, name]), "  ")
    return text


def _sections() -> set[str]:
    return {
        name
        for name, value in Recipe.model_fields.items()
        if isinstance(value.annotation, type) and issubclass(value.annotation, Section)
    }


def _commented(value: Mapping[str, Any], comment: str) -> str:
    first, _, rest = _dump(dict(value)).partition("\n")
    return f"{first}  # {' '.join(printable(rendered(comment), 200).split())}\n{rest}"


def recipe_schema() -> JsonSchemaValue:
    """Build the JSON Schema of a recipe with canonical keys, for editors and forms.

    In the schema, an experiment may contain `seed`, and all settings of `lora` and `training` that can differ
    between experiments.
    """
    schema = Recipe.model_json_schema()
    sections = schema["$defs"]
    sections["ExperimentChanges"] = {
        "type": "object",
        "description": Message("What differs in this experiment."),
        "additionalProperties": False,
        "properties": {
            "lora": _changes(sections["LoraSettings"]),
            "training": _changes(sections["TrainingSettings"], without=SHARED_TRAINING_KEYS),
            "seed": _without_default(schema["properties"]["seed"]),
        },
    }
    for section in sections.values():
        for value in section["properties"].values():
            if DEFAULT_FROM in value:
                del value["default"]
    schema["properties"]["experiments"]["additionalProperties"] = {"$ref": "#/$defs/ExperimentChanges"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _changes(section: JsonSchemaValue, without: frozenset[str] = frozenset()) -> JsonSchemaValue:
    properties = {
        key: _without_default(value) for key, value in section["properties"].items() if key not in without
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _without_default(value: JsonSchemaValue) -> JsonSchemaValue:
    """Remove a setting's default, because an experiment takes what it omits from the recipe."""
    return {key: copy.deepcopy(part) for key, part in value.items() if key != "default"}


# The settings that users most often change; all others are in the documentation.
_TOUCHED: tuple[tuple[str, type[Section], tuple[str, ...]], ...] = (
    ("data", DataSettings, ("train", "columns", "eval", "test", "max_source_length", "max_target_length")),
    ("lora", LoraSettings, ("r", "lora_alpha", "lora_dropout", "target_modules")),
    (
        "training",
        TrainingSettings,
        (
            "learning_rate",
            "num_train_epochs",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "warmup_steps",
            "early_stopping_patience",
        ),
    ),
)
_EXAMPLES = {"early_stopping_patience": 3}  # for settings that are off by default
_ABOUT_EXPERIMENTS = Message(
    "Experiments train together on one copy of the base; each contains only what differs from the above."
)
_ABOUT_VARIANTS = Message(
    "Variants of LoRA, here or in individual experiments: {settings}.", settings=joined(", ", VARIANT_KEYS)
)
_EXPERIMENTS = """\
# experiments:
#   narrow: {lora: {target_modules: [q, v]}}
#   slow: {training: {learning_rate: 1.0e-5}}
"""


def commented_recipe(
    model: str,
    data: Mapping[str, Any],
    *,
    layout: str = "",
    size: str = "",
    max_source_length: int | None = None,
    max_target_length: int | None = None,
    learning_rate: float | None = None,
    rate_remark: str = "",
    num_train_epochs: int | None = None,
) -> str:
    """Create a recipe to start with: the settings that users most often change, each with its description.

    Args:
        model: a folder, a hub name, or `starter`.
        data: contents of `data`: at least `train`.
        layout: the data's layout as recognised, to be shown in a comment.
        size: the amount of data, to be shown in a comment.
        max_source_length, max_target_length: limits that nearly every source and target fits in, in tokens;
            None for the defaults.
        learning_rate, num_train_epochs: values of these settings; None for the defaults.
        rate_remark: where the learning rate comes from, to be shown in a comment.

    Returns:
        YAML that `parse_recipe` reads.
    """
    given: dict[str, object] = {"learning_rate": learning_rate, "num_train_epochs": num_train_epochs}
    given |= {"max_source_length": max_source_length, "max_target_length": max_target_length, **data}
    facts = [size, layout and Message("recognised as {layout}", layout=layout)]
    text = _comment(_help(Recipe, "model_name_or_path")) + _dump({"model_name_or_path": model})
    for name, section, keys in _TOUCHED:
        text += "\n" + (
            _comment(rendered(Message("Data: {facts}", facts=joined(", ", filter(None, facts)))))
            if name == "data" and any(facts)
            else ""
        )
        text += f"{name}:\n"
        further = [key for key in data if key not in keys] if name == "data" else []
        for key in (*keys, *further):
            remark = rate_remark if key == "learning_rate" else ""
            text += textwrap.indent(_setting(section, key, given.get(key), remark), "  ")
        if section is LoraSettings:
            text += textwrap.indent(_comment(rendered(_ABOUT_VARIANTS)), "  ")
    text += f"\n{_comment(rendered(_ABOUT_EXPERIMENTS))}{_EXPERIMENTS}\n"
    for key in ("dtype", "device", "seed"):
        text += _setting(Recipe, key, None)
    return text


def _setting(section: type[Section], key: str, value: Any, remark: str = "") -> str:
    """Format a setting below its description; if it has no value and no default, comment it out."""
    default = section.model_fields[key].get_default(call_default_factory=True, validated_data={})
    value = default if value is None else value
    help_text = _comment(f"{_help(section, key)} {rendered(remark)}")
    if value is None:
        return f"{help_text}# {key}: {_EXAMPLES[key]}\n"
    if value == {}:
        return ""
    return help_text + _dump({key: value})


def _help(section: type[Section], key: str) -> str:
    return rendered(section.model_fields[key].description or "")


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in lines_of(text, _WIDTH))
