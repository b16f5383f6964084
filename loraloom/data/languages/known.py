"""Verification that a base knows the languages of some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from loraloom.data.languages.codes import HasLanguages, Languages
from loraloom.data.languages.names import suggest
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message
from loraloom.text.visible import quoted

SHOWN_CODES = 12
_OF_ROWS = {
    "source": Message("the source language of some rows"),
    "target": Message("the target language of some rows"),
}


def check_languages(
    rows: Sequence[HasLanguages], languages: Languages | None, base: str, *, to_answer: bool = False
) -> None:
    """Refuse rows without languages, or with languages that a multilingual base does not know.

    Args:
        rows: all rows that will be encoded.
        languages: languages of the base; None if its rows contain no codes, so that any language is allowed.
        base: name of the base in messages.
        to_answer: whether the languages come from the options of a command, not from a recipe.

    Raises:
        DataError: lists each unknown language once, and each side (source or target) that lacks a language.
    """
    if languages is None:
        return
    sides: tuple[Literal["source", "target"], ...] = ("source", "target")
    found = [problem for side in sides for problem in _problems(side, rows, languages, base, to_answer)]
    if found:
        raise DataError(found)


def _problems(
    side: Literal["source", "target"],
    rows: Sequence[HasLanguages],
    languages: Languages,
    base: str,
    to_answer: bool,
) -> Iterator[Problem]:
    names = dict.fromkeys(row.source_lang if side == "source" else row.target_lang for row in rows)
    for name in names:
        if not name:
            example = next(iter(languages.codes))
            option = Message("Give --{side}-lang CODE, for example {example}.", side=side, example=example)
            yield Problem(
                Message(
                    "{base} has {num_codes} languages, but nothing states the language of the {side} text of "
                    "some rows",
                    base=base,
                    num_codes=len(languages.codes),
                    side=side,
                ),
                where=f"data.{side}_lang",
                allowed=shown_codes(languages),
                fix=option
                if to_answer
                else Message(
                    "Set data.{side}_lang to the language's code (for example {example}), or "
                    "data.{side}_lang_column to the column that contains it.",
                    side=side,
                    example=example,
                ),
            )
        elif name not in languages.codes:
            where = _OF_ROWS[side]
            problem = unknown_language(name, languages, where=where, in_data=not to_answer)
            near = suggest(name, languages.codes)
            if to_answer and near:
                fix = Message("If you mean {near}, give --{side}-lang {near}.", near=near, side=side)
                problem = replace(problem, fix=fix)
            yield problem


def unknown_language(name: str, languages: Languages, *, where: str, in_data: bool = False) -> Problem:
    """Return the problem for a language that the tokenizer lacks; suggest the code that was probably meant.

    Args:
        in_data: whether the name may be in the data, where `data.language_codes` can map it to a code; a name
            in a setting has to be corrected there.
    """
    near = suggest(name, languages.codes)
    fix = Message("Use a code that the base's tokenizer has.")
    if near and in_data:
        fix = Message(
            "Did you mean {near}? If the data uses {shown}, set data.language_codes: {{{name}: {near}}}.",
            near=near,
            shown=quoted(name),
            name=name,
        )
    elif near:
        fix = Message("Did you mean {near}?", near=near)
    return Problem(
        Message("{name} is not a language of this base", name=quoted(name)),
        where=where,
        allowed=shown_codes(languages),
        fix=fix,
    )


def shown_codes(languages: Languages) -> str:
    """List the first twelve of a base's language codes; if there are more, add the total number of codes."""
    codes = list(languages.codes)
    more = Message(", … ({num_codes} in all)", num_codes=len(codes)) if len(codes) > SHOWN_CODES else ""
    return ", ".join(codes[:SHOWN_CODES]) + more
