"""The language codes of a multilingual tokenizer, and their places in sources and targets.

                 source             target             decoder begins with
    mBART        x x </s> de_DE     y y </s> en_XX     en_XX (the last token of the target)
    mBART-50     de_DE x x </s>     en_XX y y </s>     </s>, and then en_XX is forced
    M2M100       __de__ x x </s>    __en__ y y </s>    </s>, and then __en__ is forced
    NLLB         deu_Latn x x </s>  eng_Latn y y </s>  </s>, and then eng_Latn is forced
    NLLB, legacy x x </s> deu_Latn  eng_Latn y y </s>  </s>, and then eng_Latn is forced

The codes are added here and not by the tokenizer, which has one source language at a time and adds its code
to targets as well, unless a target language is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypedDict

Pairs = Sequence[tuple[str, str]]
"""Pairs of languages: the codes of source and target."""


class DecoderStart(NamedTuple):
    """The beginning of an answer.

    Args:
        start_token_id: the decoder's first input.
        forced_token_id: the answer's first token; None if the model chooses it.
    """

    start_token_id: int
    forced_token_id: int | None = None


class LanguagesOfAdapter(TypedDict):
    """The languages that an adapter was trained on, as its loraloom.json states them.

    Args:
        languages: pairs of codes of source and target.
        decoder_starts: code of each target language -> start_token_id and forced_token_id of `DecoderStart`.
    """

    languages: list[list[str]]
    decoder_starts: dict[str, list[int | None]]


class HasLanguages(Protocol):
    """A row with the languages of its source and answer; each is "" if unknown."""

    @property
    def source_lang(self) -> str:
        """The language of the source."""

    @property
    def target_lang(self) -> str:
        """The language of the answer."""


@dataclass(frozen=True)
class Languages:
    """The languages that a base was trained on.

    Args:
        codes: code of each language, as written in a recipe -> id of its token.
        begins_source: whether a source begins with its code; otherwise it ends with it, after EOS.
        begins_target: likewise for targets.
    """

    codes: Mapping[str, int]
    begins_source: bool
    begins_target: bool

    def source(self, ids: list[int], code: str) -> list[int]:
        """Add a language's code to a source, whose last token is EOS."""
        return self._with_code(ids, code, self.begins_source)

    def target(self, ids: list[int], code: str) -> list[int]:
        """Add a language's code to a target, whose last token is EOS."""
        return self._with_code(ids, code, self.begins_target)

    def decoder_start(self, code: str, start_token_id: int) -> DecoderStart:
        """Return the beginning of an answer in a language.

        Args:
            code: code of the language.
            start_token_id: the decoder's first input; unused if the decoder begins with the code.
        """
        if self.begins_target:
            return DecoderStart(start_token_id, self.codes[code])
        return DecoderStart(self.codes[code])

    def decoder_start_of(self, labels: Sequence[int], start_token_id: int) -> DecoderStart:
        """Return the beginning of a known answer, whose labels contain the token of its language."""
        if self.begins_target:
            return DecoderStart(start_token_id, int(labels[0]))
        return DecoderStart(int(labels[-1]))

    def origin(self, pairs: Pairs, start_token_id: int) -> LanguagesOfAdapter:
        """Return the entry of an adapter's loraloom.json for the language pairs that it was trained on."""
        targets = sorted({target for _, target in pairs})
        return {
            "languages": [list(pair) for pair in sorted(pairs)],
            "decoder_starts": {code: list(self.decoder_start(code, start_token_id)) for code in targets},
        }

    def pair_of(self, input_ids: Sequence[int], labels: Sequence[int]) -> tuple[str, str] | None:
        """Read the language codes of an encoded row's source and target; None if either is missing."""
        names = {token: code for code, token in self.codes.items()}
        source, target = (0 if first else -1 for first in (self.begins_source, self.begins_target))
        found = names.get(int(input_ids[source])), names.get(int(labels[target]))
        return (found[0], found[1]) if found[0] is not None and found[1] is not None else None

    def _with_code(self, ids: list[int], code: str, is_first: bool) -> list[int]:
        token = self.codes[code]
        return [token, *ids] if is_first else [*ids, token]


def encoded_rows_of_pairs(
    rows: Iterable[tuple[Sequence[int], Sequence[int]]], languages: Languages
) -> dict[str, list[int]]:
    """Map the name of each pair of languages, found in the rows' tokens, to the indices of its rows."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        pair = languages.pair_of(*row)
        assert pair is not None, "every row of a multilingual base has both codes"
        found.setdefault("-".join(pair), []).append(number)
    return found


def pairs_of_origin(origin: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of languages that an adapter was trained on, from its loraloom.json."""
    listed = origin.get("languages")
    pairs = [pair for pair in listed if isinstance(pair, list)] if isinstance(listed, list) else []
    return [(str(pair[0]), str(pair[1])) for pair in pairs if len(pair) == 2]


def pair_name(row: HasLanguages) -> str:
    """Return the name of a row's pair of languages in reports: `deu_Latn-eng_Latn`."""
    return f"{row.source_lang}-{row.target_lang}"


def rows_of_pairs(rows: Sequence[HasLanguages]) -> dict[str, list[int]]:
    """Map the name of each pair of languages to the indices of its rows, the largest pair first."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(pair_name(row), []).append(number)
    return dict(sorted(found.items(), key=lambda pair: (-len(pair[1]), pair[0])))
