"""Which column is what: one recogniser for each layout that data sets come in.

A recogniser looks at one row and says which layout it has, or None. `LAYOUTS` is the whole list;
to read another layout, add a line to it.

    {"instruction": …, "input": …, "output": …}          ─▶ one Exchange
    {"translation": {"en": …, "de": …}}                  ─▶ one Exchange
    {"messages": [{"role": "user", "content": …}, …]}    ─▶ an Exchange for each answer
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from loraloom.data.formats.delimited import has_header
from loraloom.data.formats.json_shapes import CONVERSATION_COLUMNS
from loraloom.data.formats.row import shown_name, shown_names
from loraloom.data.layouts.conversation import conversation
from loraloom.data.layouts.exchange import MISSING, Exchange, Field, Flaw, Layout, Recogniser, Values
from loraloom.data.layouts.nested import is_in, names_in, value_at
from loraloom.errors import DataError, Problem

_PLAIN_YAML = re.compile(r"[^\W\d][\w /-]*")
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
Role = Literal["instruction", "input", "response"]


def field_layout(instruction: str, response: str, *inputs: str) -> Layout:
    """A row is one exchange; its texts are columns.

    Args:
        instruction, response: columns that must be there, or paths into columns (`answers.text[0]`).
        inputs: such that may be there, whose texts follow the instruction's.
    """

    def exchanges(values: Values, told: Counter[str]) -> Iterator[Exchange]:
        yield Exchange(
            Field(instruction, value_at(values, instruction)),
            Field(response, value_at(values, response)),
            tuple(Field(name, value_at(values, name), optional=True) for name in inputs),
        )

    name = "/".join([instruction, *(f"[{column}]" for column in inputs), response])
    asked = (instruction, *inputs)
    return Layout(name, (*asked, response), asked, response, exchanges)


def translation_layout(source: str, target: str) -> Layout:
    """A row is {"translation": {source: …, target: …}}."""

    def exchanges(values: Values, told: Counter[str]) -> Iterator[Exchange]:
        pair = values.get("translation", MISSING)
        if not isinstance(pair, dict):
            raise Flaw(f"`translation` should hold {shown_name(source)} and {shown_name(target)}")
        yield Exchange(
            Field(f"translation.{source}", pair.get(source, MISSING)),
            Field(f"translation.{target}", pair.get(target, MISSING)),
        )

    name = f"translation from {shown_name(source)} to {shown_name(target)}"
    return Layout(name, ("translation",), (source,), target, exchanges, holes=(source,))


def _fields(instruction: str, response: str, *inputs: str) -> Recogniser:
    layout = field_layout(instruction, response, *inputs)
    return lambda values: layout if instruction in values and response in values else None


def _translation(values: Values) -> Layout | None:
    pair = values.get("translation")
    return translation_layout(*pair) if isinstance(pair, dict) and len(pair) == 2 else None


LAYOUTS: tuple[Recogniser, ...] = (
    _fields("instruction", "response", "input", "context"),
    _fields("instruction", "output", "input", "context"),
    _fields("prompt", "completion"),
    _fields("prompt", "response"),
    _fields("question", "answer", "context"),
    _fields("query", "response"),
    _fields("source", "target"),
    _fields("input", "output"),
    _fields("input_text", "target_text"),
    _fields("text", "summary"),
    _fields("document", "summary"),
    _fields("dialogue", "summary"),
    _fields("article", "highlights"),
    _translation,
    *(conversation(column) for column in CONVERSATION_COLUMNS),
)
RECOGNISED = (
    "instruction/response, instruction/input/output, prompt/completion, question/answer, source/target, "
    "text/summary, document/summary, article/highlights, translation pairs, and conversations "
    "(messages, conversations, conversation)"
)


def recognise(sample: Sequence[Values], columns: Mapping[Role, str], *, where: str) -> Layout:
    """The layout of a file, from its first rows: the one most of them have.

    Args:
        sample: the first rows' values, at least one.
        columns: the recipe's `data.columns`; it decides where it is not empty.
        where: the file's name, for messages.

    Raises:
        DataError: no layout fits, or two fit as well, or `columns` names what is not there. The
            message has the columns found and the lines to write.
    """
    found = columns_of(sample)
    if columns:
        return _mapped(found, sample, columns, where)
    fits: Counter[str] = Counter()
    layouts: dict[str, Layout] = {}
    for values in sample:
        for layout in filter(None, (read(values) for read in LAYOUTS)):
            layouts[layout.name] = layout
            fits[layout.name] += 1

    def weight(layout: Layout) -> tuple[int, int]:
        return fits[layout.name], sum(column in found for column in layout.columns)

    ranked = sorted(layouts.values(), key=weight, reverse=True)
    if not ranked:
        raise DataError(_unrecognised(found, sample, where))
    best, *others = ranked
    rivals = [layout for layout in others if weight(layout) == weight(best)]
    if rivals:
        raise DataError(
            f"the columns fit {best.name} and {rivals[0].name} alike",
            where=where,
            fix=_lines_to_write(best.asked[0], best.response),
        )
    return _named_for(best, found)


def _named_for(layout: Layout, found: list[str]) -> Layout:
    """The layout, named without the optional columns that a file does not have."""
    name = layout.name
    for column in layout.asked[1:]:
        name = name.replace(f"[{column}]/", f"{column}/" if column in found else "")
    return dataclasses.replace(layout, name=name)


def columns_of(sample: Sequence[Values]) -> list[str]:
    """The columns of some rows, in the order they first appear."""
    return list(dict.fromkeys(name for values in sample for name in values))


def suggested_columns(sample: Sequence[Values]) -> dict[str, str]:
    """A guess at `data.columns` for rows of no known layout: the first two columns that hold text."""
    texts = [
        name
        for name in columns_of(sample)
        if any(isinstance(values.get(name), str) and values[name].strip() for values in sample)
    ]
    return {"instruction": texts[0], "response": texts[1]} if len(texts) > 1 else {}


def _mapped(found: list[str], sample: Sequence[Values], columns: Mapping[Role, str], where: str) -> Layout:
    lacking = [role for role in ("instruction", "response") if role not in columns]
    if lacking:
        raise DataError(
            f"names {', '.join(columns)} but not {' and '.join(lacking)}",
            where="data.columns",
            fix=f"Found in {where}: {_shown_columns(found, where)}.",
        )
    languages = columns_of([values["translation"] for values in sample if _translation(values)])
    if (
        "translation" in found
        and not set(columns.values()) & set(found)
        and set(columns.values()) <= set(languages)
    ):
        return translation_layout(columns["instruction"], columns["response"])
    absent = [
        Problem(
            f"there is no column {shown_name(name)} in {where}",
            where=f"data.columns.{role}",
            allowed=_shown_columns(names_in(sample), where),
        )
        for role, name in columns.items()
        if not is_in(sample, name)
    ]
    if absent:
        raise DataError(absent)
    if len(set(columns.values())) < len(columns):
        raise DataError("gives one column two roles", where="data.columns")
    inputs = [columns["input"]] if "input" in columns else []
    return _named_for(field_layout(columns["instruction"], columns["response"], *inputs), [*found, *inputs])


def _unrecognised(found: list[str], sample: Sequence[Values], where: str) -> Problem:
    guess = {} if has_header(where) else suggested_columns(sample)
    guess = guess or {"instruction": "COLUMN", "response": "COLUMN"}
    return Problem(
        "its columns are of no layout known here",
        where=where,
        found=_shown_columns(found, where) if found else "no column",
        allowed=RECOGNISED,
        fix=_lines_to_write(guess["instruction"], guess["response"]),
    )


def _shown_columns(found: list[str], where: str) -> str:
    """The columns by name; of a table only their number: without a header, its first row would be shown."""
    return f"{len(found)} columns in its first line" if has_header(where) else shown_names(found)


def _lines_to_write(instruction: str, response: str) -> str:
    return (
        "Say in the recipe which is which, for example:\n"
        f"  data:\n    columns:\n      instruction: {_yaml(instruction)}\n      response: {_yaml(response)}\n"
        "Optional is `input`, whose text follows the instruction's."
    )


def _yaml(name: str) -> str:
    """A column's name as YAML reads it back."""
    plain = _PLAIN_YAML.fullmatch(name) and name.lower() not in _YAML_WORDS and name == name.strip()
    return name if plain else json.dumps(name)
