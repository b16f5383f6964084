"""Lookup of the setting that a key stands for: canonical paths, and suggestions for mistyped keys."""

from __future__ import annotations

from pydantic.fields import FieldInfo

from loraloom.recipe.aliases import ALIASES
from loraloom.recipe.relative_paths import Section
from loraloom.recipe.schema import Recipe
from loraloom.recipe.script_keys import SCRIPT_KEYS
from loraloom.recipe.typos import nearest
from loraloom.text.message import Message

Path = tuple[str, ...]

SECTIONS: dict[str, type[Section]] = {
    name: info.annotation
    for name, info in Recipe.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
FIELDS: dict[Path, FieldInfo] = {
    (name,): info for name, info in Recipe.model_fields.items() if name not in SECTIONS
} | {
    (section, name): info for section, model in SECTIONS.items() for name, info in model.model_fields.items()
}
COLUMNS: Path = ("data", "columns")
# Example of each section, for messages about a wrong value in its place.
SECTION_EXAMPLES = {
    "data": "data: {train: data.json}",
    "data.columns": Message("data.columns: {{instruction: question}}"),
    "lora": "lora: {r: 16}",
    "training": "training: {learning_rate: 1e-4}",
    "generation": "generation: {max_new_tokens: 128}",
}


def canonical_path(section: str, key: str) -> Path | None:
    """Return the canonical path of a key in `section` ("" for the top level); None for an unknown key.

    >>> canonical_path("", "lr"), canonical_path("lora", "lr"), canonical_path("", "fp16")
    (('training', 'learning_rate'), ('training', 'learning_rate'), None)
    """
    if section and (section, key) in FIELDS:
        return (section, key)
    if not section and ((key,) in FIELDS or (key in SECTIONS and key not in ALIASES)):
        return (key,)
    for spelling in (f"{section}.{key}", key):
        if spelling in ALIASES:
            return tuple(ALIASES[spelling].split("."))
        if spelling in SCRIPT_KEYS:
            return None
    head, _, rest = key.partition(".")
    if (section, head) == COLUMNS and rest:
        return (*COLUMNS, rest)
    owners = [path for path in FIELDS if path[-1] == key and path != ("experiments",)]
    return owners[0] if len(owners) == 1 else None


# Every known name of a setting, for lookup; a name that is not in it may be mistyped.
CANONICAL: dict[tuple[str, str], Path | None] = {
    (section, key): canonical_path(section, key)
    for section in ("", *SECTIONS)
    for key in {name for path in FIELDS for name in path} | SCRIPT_KEYS.keys() | {*ALIASES, "experiments"}
}
_TEXT_TYPES = (str, str | None)
_FILE_TYPES = (str | list[str], str | list[str] | None)
# Settings that are text even if they look like numbers: a file may be named 2024. FILES may also be lists.
TEXTS = frozenset(path for path, info in FIELDS.items() if info.annotation in _TEXT_TYPES)
FILES = frozenset(path for path, info in FIELDS.items() if info.annotation in _FILE_TYPES)


def field_path(path: Path) -> Path:
    """Return the path of a setting, without the experiment and without any key inside the setting's value.

    >>> field_path(("experiments", "slow", "training", "eval_steps"))
    ('training', 'eval_steps')
    """
    if path[:1] == ("experiments",) and len(path) > 2:
        path = path[2:]
    return path[:2] if path[:1] and path[0] in SECTIONS else path[:1]


def keys_of(section: str) -> list[str]:
    """List the keys of a section; "" is the top level."""
    if section:
        return [path[1] for path in FIELDS if path[0] == section and len(path) == 2]
    return list(Recipe.model_fields)


def nearest_key(section: str, key: str) -> str:
    """Return the canonical key nearest to a mistyped one, or ""; keys of the same section are preferred."""
    own = {name: f"{section}.{name}" if section else name for name in keys_of(section)}
    everywhere = {path[-1]: ".".join(path) for path in FIELDS if len(path) > 1}
    aliases = {alias.rpartition(".")[2]: path for alias, path in ALIASES.items()}
    own_aliases = {alias: path for alias, path in aliases.items() if path.startswith(f"{section}.")}
    for names in (own, own_aliases, everywhere | aliases):
        match = nearest(key, names)
        if match:
            return names[match]
    return ""
