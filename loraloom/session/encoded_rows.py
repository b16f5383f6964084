"""Preparation of rows for a recipe's base: selection of the rows of an epoch, and encoding to tokens."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.base.loading import Base
from loraloom.data.encoding import EncodedSet, encode
from loraloom.data.example import Example
from loraloom.data.languages.balance import balanced
from loraloom.data.languages.codes import rows_of_pairs
from loraloom.data.languages.known import check_languages
from loraloom.data.splitting.split import Progress, Split, in_silence
from loraloom.data.stored.encoded_file import encode_stored
from loraloom.data.stored.example_file import StoredExamples
from loraloom.recipe import Recipe


def train_rows(split: Split, base: Base, recipe: Recipe) -> Sequence[Example]:
    """Return the rows of an epoch; rows of small language pairs are repeated if the recipe balances pairs."""
    temperature, rows = recipe.data.language_temperature, split.train
    if base.languages is None or temperature == 1:
        return rows
    if isinstance(rows, StoredExamples):
        pairs = {"-".join(pair): places for pair, places in rows.pairs().items()}
        return rows.chosen(balanced(pairs, temperature, recipe.data.split_seed))
    chosen = balanced(rows_of_pairs(rows), temperature, recipe.data.split_seed)
    return [rows[number] for number in chosen.tolist()]


def encode_rows(
    examples: Sequence[Example], base: Base, recipe: Recipe, progress: Progress = in_silence
) -> EncodedSet:
    """Encode rows for a recipe's base; if rows are kept in files, so are their tokens, in the same folder.

    Args:
        examples: the rows.
        base: the base.
        recipe: the recipe, which sets lengths and truncation.
        progress: called with progress messages, if the rows are kept in files.

    Raises:
        DataError: a row is in a language that the base does not know.
    """
    data = recipe.data

    def encoded(rows: Sequence[Example]) -> EncodedSet:
        return encode(
            rows,
            base.tokenizer,
            max_source_length=data.max_source_length,
            max_target_length=data.max_target_length,
            truncation=data.source_truncation,
            languages=base.languages,
            frame=base.frame,
        )

    if not isinstance(examples, StoredExamples) or not examples:
        check_languages(examples, base.languages, base.name)
        return encoded(examples)
    if base.languages is not None:
        one_of_each = sorted(int(places[0]) for places in examples.pairs().values())
        check_languages([examples[place] for place in one_of_each], base.languages, base.name)
    depends_on = {
        "tokenizer": base.tokenizer_fingerprint,
        "lengths": [data.max_source_length, data.max_target_length],
        "truncation": data.source_truncation,
        "languages": sorted(base.languages.codes.items()) if base.languages is not None else [],
        "frame": repr(base.frame),
    }
    return encode_stored(examples, encoded, depends_on, progress)
