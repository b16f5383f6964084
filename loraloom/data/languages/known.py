"""Whether a base knows the languages of some rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from loraloom.data.languages.codes import HasLanguages, Languages
from loraloom.data.languages.names import suggest
from loraloom.errors import DataError, Problem
from loraloom.text.visible import quoted

SHOWN_CODES = 12


def check_languages(rows: Sequence[HasLanguages], languages: Languages | None, base: str) -> None:
    """Refuse rows without languages, or with languages that a multilingual base does not know.

    Args:
        rows: all that will be encoded.
        languages: of the base; None if its rows carry no codes, so that any will do.
        base: what messages call it.

    Raises:
        DataError: each unknown language once.
    """
    if languages is None:
        return
    sides: tuple[Literal["source", "target"], ...] = ("source", "target")
    found = [problem for side in sides for problem in _problems(side, rows, languages, base)]
    if found:
        raise DataError(found)


def _problems(
    side: Literal["source", "target"], rows: Sequence[HasLanguages], languages: Languages, base: str
) -> Iterator[Problem]:
    names = dict.fromkeys(row.source_lang if side == "source" else row.target_lang for row in rows)
    for name in names:
        if not name:
            example = next(iter(languages.codes))
            yield Problem(
                f"{base} has {len(languages.codes)} languages, and nothing says which one the "
                f"{side} text of some rows is in",
                where=f"data.{side}_lang",
                allowed=shown_codes(languages),
                fix=f"Set data.{side}_lang to its code (for example {example}), or data.{side}_lang_column "
                f"to the column that has it; for texts without a recipe, give --{side}-lang.",
            )
        elif name not in languages.codes:
            yield unknown_language(name, languages, where=f"the {side} language of some rows")


def unknown_language(name: str, languages: Languages, *, where: str) -> Problem:
    """A language that a tokenizer does not have, with the code that was probably meant."""
    near = suggest(name, languages.codes)
    maps = f" If the data says {quoted(name)}, set data.language_codes: {{{name}: {near}}}."
    return Problem(
        f"{quoted(name)} is no language of this base",
        where=where,
        allowed=shown_codes(languages),
        fix=f"Did you mean {near}?{maps}" if near else "Use a code that its tokenizer has.",
    )


def shown_codes(languages: Languages) -> str:
    """Some of the codes of a base, and how many there are."""
    codes = list(languages.codes)
    more = f", … ({len(codes)} in all)" if len(codes) > SHOWN_CODES else ""
    return ", ".join(codes[:SHOWN_CODES]) + more
