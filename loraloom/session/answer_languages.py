"""The languages of rows to answer, taken from options, the rows, the recipe, or an adapter's training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loraloom.data.languages.codes import DecoderStart, pairs_of_origin
from loraloom.data.languages.known import check_languages
from loraloom.data.prompts.prompts import Prompt
from loraloom.recipe import Recipe
from loraloom.run.events import Note, Report
from loraloom.session.answering_model import AnsweringModel
from loraloom.text.message import Message

SHOWN_PAIRS = 4


def in_languages(recipe: Recipe, source_lang: str | None, target_lang: str | None) -> Recipe:
    """Return the recipe with the languages given as options, which replace those in columns of the data."""
    given = {"source_lang": source_lang, "target_lang": target_lang}
    changes: dict[str, str | None] = {key: value for key, value in given.items() if value}
    if not changes:
        return recipe
    changes.update({f"{key}_column": None for key in changes})
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


def with_languages(loaded: AnsweringModel, rows: Sequence[Prompt], report: Report) -> list[Prompt]:
    """Return the rows to answer, with missing languages filled in and all languages checked.

    If the adapters were trained on a single language pair, rows without stated languages get that pair.

    Raises:
        DataError: some rows have no languages, or languages that the base does not know.
    """
    if loaded.base.languages is None:
        return list(rows)
    known = trained_pairs(loaded)
    if len(known) == 1:
        ((source, target),) = known
        num = sum(not (row.source_lang and row.target_lang) for row in rows)
        if num:
            report(
                Note(
                    message=Message(
                        "{num:,} rows do not specify their languages; they are taken to be {source} and "
                        "{target}, the only ones that the adapters were trained on",
                        num=num,
                        source=source,
                        target=target,
                    )
                )
            )
        rows = [
            replace(row, source_lang=row.source_lang or source, target_lang=row.target_lang or target)
            for row in rows
        ]
    check_languages(rows, loaded.base.languages, loaded.base.name, to_answer=True)
    asked = dict.fromkeys((row.source_lang, row.target_lang) for row in rows)
    if known and (unseen := [pair for pair in asked if pair not in known]):
        report(
            Note(
                message=Message(
                    "the adapters were trained on {known}, not on {unseen}; for other pairs, compare their "
                    "answers with the base's before you rely on them",
                    unseen=_shown_pairs(unseen),
                    known=_shown_pairs(sorted(known)),
                )
            )
        )
    return list(rows)


def _shown_pairs(pairs: Sequence[tuple[str, str]]) -> str:
    more = ", …" if len(pairs) > SHOWN_PAIRS else ""
    return ", ".join(f"{source}-{target}" for source, target in pairs[:SHOWN_PAIRS]) + more


def trained_pairs(loaded: AnsweringModel) -> set[tuple[str, str]]:
    """Return the language pairs that the loaded adapters were trained on."""
    return {pair for adapter in loaded.adapters.values() for pair in pairs_of_origin(adapter.origin)}


def decoder_starts(loaded: AnsweringModel, rows: Sequence[Prompt]) -> list[DecoderStart]:
    """Return how the answer to each row begins: the decoder's first input, and any forced first token."""
    return [loaded.base.decoder_start(row.target_lang) for row in rows]
