"""The languages of a file's rows: from the recipe, from columns, or from keys of translation pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loraloom.data.formats.row import shown_names
from loraloom.data.languages.names import language_of
from loraloom.data.layouts.column_paths import column_of, is_in, names_in, value_at
from loraloom.data.layouts.exchange import Flaw, Layout, Values
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message
from loraloom.text.visible import quoted


@dataclass(frozen=True)
class _Side:
    """The place that states the language of the source or target: a fixed name, a column, or neither."""

    fixed: str = ""
    column: str = ""


class RowLanguages:
    """Reader of the languages of one file's rows.

    Args:
        settings: `source_lang`, `target_lang`, their columns, and `language_codes`.
        layout: layout of the rows; in translation pairs, the keys name the languages.
        sample: values of the file's first rows.
        shown_as: the file's name in messages.

    Raises:
        DataError: a column is not in the file, or translation pairs are read in the direction opposite to the
            recipe's languages.
    """

    def __init__(
        self, settings: DataSettings, layout: Layout, sample: Sequence[Values], shown_as: str
    ) -> None:
        self._codes = settings.language_codes
        keys = layout.languages or ("", "")
        self._sides = (
            self._side(settings.source_lang, settings.source_lang_column, keys[0], sample),
            self._side(settings.target_lang, settings.target_lang_column, keys[1], sample),
        )
        problems = [
            Problem(
                Message(
                    "there is no column {column} in {shown_as}", column=quoted(side.column), shown_as=shown_as
                ),
                where=f"data.{name}_lang_column",
                allowed=shown_names(names_in(sample)),
            )
            for name, side in zip(("source", "target"), self._sides, strict=True)
            if side.column and not is_in(sample, side.column)
        ]
        if problems:
            raise DataError(problems)
        if layout.languages and settings.source_lang and settings.target_lang:
            self._check_direction(settings.source_lang, settings.target_lang, layout.languages, shown_as)
        self.columns = {
            column_of(values, side.column) for side in self._sides if side.column for values in sample
        }

    def of(self, values: Values) -> tuple[str, str]:
        """Return the languages of a row's source and answer; "" if they are not stated.

        Raises:
            Flaw: the column of a language is empty or not text in this row.
        """
        source, target = (self._name(values, side) for side in self._sides)
        return source, target

    def _name(self, values: Values, side: _Side) -> str:
        if not side.column:
            return side.fixed
        value = value_at(values, side.column)
        if not isinstance(value, str) or not value.strip():
            raise Flaw(
                Message("{column} has no language", column=quoted(side.column)),
                Message("Fill it in with a language code that the tokenizer has."),
            )
        return self._codes.get(value.strip(), value.strip())

    def _side(self, fixed: str | None, column: str | None, key: str, sample: Sequence[Values]) -> _Side:
        if fixed:
            return _Side(fixed)
        if column and (is_in(sample, column) or not key):
            return _Side(column=column)
        return _Side(self._codes.get(key, key))

    def _check_direction(self, source: str, target: str, keys: tuple[str, str], where: str) -> None:
        """Refuse translation pairs that are read from the recipe's target language to its source language."""
        wanted, found = (language_of(source), language_of(target)), tuple(map(language_of, keys))
        if wanted[0] != wanted[1] and found == wanted[::-1]:
            raise DataError(
                Message(
                    "the recipe's languages are {source} and {target}, but the translation pairs are read "
                    "from {keys} to {keys_2}",
                    source=source,
                    target=target,
                    keys=quoted(keys[0]),
                    keys_2=quoted(keys[1]),
                ),
                where=where,
                fix=Message(
                    "Set data.columns: {{instruction: {keys}, response: {keys_2}}}, or swap "
                    "data.source_lang and data.target_lang.",
                    keys=keys[1],
                    keys_2=keys[0],
                ),
            )
