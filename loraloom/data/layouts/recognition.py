"""Recognition of columns: one recogniser for each layout in which datasets are published.

A recogniser takes one row and returns its layout, or None. To support another layout, add a line to
`LAYOUTS`. If no recogniser in it fits a file, those in `LABELLED` and `conversation_of_any_column` are tried.

    {"instruction": …, "input": …, "output": …}          ─▶ one Exchange
    {"translation": {"en": …, "de": …}}                  ─▶ one Exchange
    {"messages": [{"role": "user", "content": …}, …]}    ─▶ an Exchange for each answer
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from loraloom.data.formats.delimited import has_header
from loraloom.data.formats.json_shapes import CONVERSATION_COLUMNS
from loraloom.data.formats.row import shown_names
from loraloom.data.layouts.column_paths import is_in, names_in, value_at
from loraloom.data.layouts.context import with_context
from loraloom.data.layouts.conversation import conversation, conversation_of_any_column
from loraloom.data.layouts.exchange import (
    MISSING,
    Exchange,
    Field,
    Flaw,
    Layout,
    LayoutOptions,
    Recogniser,
    Values,
)
from loraloom.data.layouts.labelled import LABELLED
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.no_layout import no_layout_error, shown_columns
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted


def field_layout(instruction: str, response: str, *inputs: str) -> Layout:
    """Build the layout of rows that each contain one question and its answer, every text in its own column.

    Args:
        instruction, response: required columns, or paths into columns (`answers.text[0]`).
        inputs: optional columns, whose texts follow the instruction.
    """

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        yield Exchange(
            Field(instruction, value_at(values, instruction)),
            Field(response, value_at(values, response)),
            tuple(Field(name, value_at(values, name), optional=True) for name in inputs),
        )

    name = "/".join([instruction, *(f"[{column}]" for column in inputs), response])
    asked = (instruction, *inputs)
    return Layout(name, (*asked, response), asked, response, exchanges)


def translation_layout(source: str, target: str) -> Layout:
    """Build the layout of rows {"translation": {source: …, target: …}}."""

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        pair = values.get("translation", MISSING)
        if not isinstance(pair, dict):
            raise Flaw(
                Message(
                    "`translation` must contain {source} and {target}",
                    source=quoted(source),
                    target=quoted(target),
                )
            )
        yield Exchange(
            Field(f"translation.{source}", pair.get(source, MISSING)),
            Field(f"translation.{target}", pair.get(target, MISSING)),
        )

    name = f"translation from {quoted(source)} to {quoted(target)}"
    return Layout(name, ("translation",), (source,), target, exchanges, (source,), languages=(source, target))


def _fields(instruction: str, response: str, *inputs: str) -> Recogniser:
    layout = field_layout(instruction, response, *inputs)
    return lambda values: layout if instruction in values and response in values else None


def _translation(values: Values) -> Layout | None:
    languages = _languages([values])
    return translation_layout(*languages) if len(languages) == 2 else None


def _languages(sample: Sequence[Values]) -> list[str]:
    """List the languages in the translations of some rows, in order of first appearance."""
    pairs = [values.get("translation") for values in sample]
    languages = [
        language
        for pair in pairs
        if isinstance(pair, dict)
        for language, text in pair.items()
        if text is not None or len(pair) == 2  # a table gives every row the languages of all rows
    ]
    return list(dict.fromkeys(languages))


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
RECOGNISED = Message(
    "instruction/response, instruction/input/output, prompt/completion, question/answer, "
    "source/target, text/summary, document/summary, article/highlights, translation pairs, "
    "conversations (messages, conversations, conversation), text/label, "
    "premise/hypothesis/label, sentence1/sentence2/label or score, and question/context/answers"
)


def recognise(sample: Sequence[Values], options: LayoutOptions, *, where: str) -> Layout:
    """Recognise the layout of a file from its first rows: the one that most of them have.

    Args:
        sample: values of the first rows, at least one.
        options: the recipe's options; if `columns` is set, it determines the layout.
        where: the file's name, for messages.

    Raises:
        DataError: no layout fits, several fit equally well, or `columns` lacks a role, or names a missing
            column or the same one twice. If the layout is unclear, the message lists the columns found and
            the recipe lines to write.
    """
    found = columns_of(sample)
    if options.columns:
        layout = _mapped(found, sample, options.columns, where)
    else:
        layout = _of_most(found, sample, where)
    return with_context(_named_for(layout, found), found, options)


def _of_most(found: list[str], sample: Sequence[Values], where: str) -> Layout:
    """Return the layout that most rows have; other layouts are tried only if none in `LAYOUTS` fits."""
    ranked = _ranked(LAYOUTS, found, sample)
    languages = [] if ranked and ranked[0].columns != ("translation",) else _languages(sample)
    if len(languages) > 2 and not _most_have_one_pair(sample):
        what: str = Message(
            "its translations contain {num_languages} languages, but an adapter learns one direction",
            num_languages=len(languages),
        )
        raise no_layout_error(what, shown_names(languages), where, (languages[0], languages[1]))
    ranked = ranked or _ranked((*LABELLED, conversation_of_any_column), found, sample)
    if not ranked:
        # Only the user knows which column is the question: an example with their names would be a guess.
        what, columns = Message("its columns match no known layout"), shown_columns(found, where)
        example = ("QUESTION_COLUMN", "ANSWER_COLUMN")
        if has_header(where) and len(found) > 1:
            what = Message(
                "{what}; if its first line is a row, add a line above it that names the columns", what=what
            )
        elif has_header(where):
            what = Message(
                "has one column; if the file uses another separator, set `data.delimiter` to it, in quotes"
            )
        raise no_layout_error(
            what, columns if found else Message("no column"), where, example, allowed=RECOGNISED
        )
    best, *rivals = ranked
    if rivals:
        what = Message("the columns match both {name} and {name_2}", name=best.name, name_2=rivals[0].name)
        raise no_layout_error(what, shown_columns(found, where), where, (best.asked[0], best.response))
    return best


def _ranked(recognisers: Sequence[Recogniser], found: list[str], sample: Sequence[Values]) -> list[Layout]:
    """Return the layouts that fit best: usually one, several in a tie, or none.

    The number of rows that a layout fits decides, and then the number of its columns that are in `found`.
    """
    fits: Counter[str] = Counter()
    layouts: dict[str, Layout] = {}
    for values in sample:
        for layout in filter(None, (read(values) for read in recognisers)):
            layouts[layout.name] = layout
            fits[layout.name] += 1

    def weight(layout: Layout) -> tuple[int, int]:
        return fits[layout.name], sum(column in found for column in layout.columns)

    ranked = sorted(layouts.values(), key=weight, reverse=True)
    return [layout for layout in ranked if weight(layout) == weight(ranked[0])]


def _most_have_one_pair(sample: Sequence[Values]) -> bool:
    pairs = Counter(frozenset(_languages([values])) for values in sample if "translation" in values)
    pair, count = pairs.most_common(1)[0]
    return len(pair) == 2 and 2 * count > pairs.total()


def _named_for(layout: Layout, found: list[str]) -> Layout:
    """Return the layout with a name from which optional columns that the file lacks are omitted."""
    name = layout.name
    for column in layout.asked[1:]:
        name = name.replace(f"[{column}]/", f"{column}/" if column in found else "")
    return dataclasses.replace(layout, name=name)


def columns_of(sample: Sequence[Values]) -> list[str]:
    """List the columns of some rows, in order of first appearance."""
    return list(dict.fromkeys(name for values in sample for name in values))


def _mapped(found: list[str], sample: Sequence[Values], columns: Mapping[str, str], where: str) -> Layout:
    lacking = [role for role in ("instruction", "response") if role not in columns]
    if lacking:
        raise DataError(
            Message(
                "names {columns} but not {lacking}",
                columns=", ".join(columns),
                lacking=joined(" and ", lacking),
            ),
            where="data.columns",
            fix=Message(
                "Found in {where}: {shown_columns}.", where=where, shown_columns=shown_columns(found, where)
            ),
        )
    languages = _languages(sample)
    if languages and not any(is_in(sample, columns[role]) for role in ("instruction", "response")):
        return _direction(languages, columns, where)
    absent = [
        Problem(
            Message("there is no column {name} in {where}", name=quoted(name), where=where),
            where=f"data.columns.{role}",
            allowed=shown_columns(names_in(sample), where),
        )
        for role, name in columns.items()
        if not is_in(sample, name)
    ]
    if absent:
        raise DataError(absent)
    if len(set(columns.values())) < len(columns):
        raise DataError(Message("assigns two roles to one column"), where="data.columns")
    inputs = [columns["input"]] if "input" in columns else []
    return field_layout(columns["instruction"], columns["response"], *inputs)


def _direction(languages: list[str], columns: Mapping[str, str], where: str) -> Layout:
    """Build the layout of translations between the two languages that `columns` names."""
    absent = [
        Problem(
            Message(
                "the translations in {where} have no language {columns}",
                where=where,
                columns=quoted(columns[role]),
            ),
            where=f"data.columns.{role}",
            allowed=shown_names(languages),
        )
        for role in ("instruction", "response")
        if columns[role] not in languages
    ]
    if absent:
        raise DataError(absent)
    if columns["instruction"] == columns["response"]:
        raise DataError(Message("assigns two roles to one language"), where="data.columns")
    return translation_layout(columns["instruction"], columns["response"])
