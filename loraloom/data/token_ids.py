"""Token ids of many texts, one chunk at a time: truncated to a limit, with EOS and language codes."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from loraloom.data.languages.codes import HasLanguages, Languages
from loraloom.data.sources.source import pieces_of
from loraloom.data.sources.truncation import AT_THE_END, truncate_all
from loraloom.errors import DataError
from loraloom.text.message import Message

Truncation = Literal["context", "right"]
CHUNK = 1000


class Tokenizer(Protocol):
    """The part of the transformers tokenizer interface that encoding uses."""

    eos_token_id: int | None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Tokenize texts into `{"input_ids": …}`."""


class PromptLike(HasLanguages, Protocol):
    """The attributes of a prompt that encoding uses."""

    @property
    def source(self) -> str:
        """The source text."""

    @property
    def parts(self) -> bytes:
        """The kinds and lengths of the pieces of the source, in the form that `pieces_of` reads."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens around a model's texts, where its tokenizer alone does not determine them.

    Args:
        start_token_id: the decoder's first input, which is removed from targets that begin with it; None to
            remove nothing. Gemma's tokenizers begin every text with this token, and a model that is trained
            on such targets learns to begin answers with two of them.
        ends_sources: whether a source ends in EOS, as every target does.
    """

    start_token_id: int | None = None
    ends_sources: bool = True


USUAL = Frame()


class TokenIds:
    """Token ids of texts, computed in chunks, because a million lists of Python ints would take gigabytes.

    Each text has at most `limit` ids, EOS last. A tokenizer's own truncation may remove EOS, and
    T5 then never learns to stop.
    """

    def __init__(
        self,
        texts: Iterable[str],
        tokenizer: Tokenizer,
        limit: int,
        *,
        as_target: bool = False,
        languages: Languages | None = None,
        codes: Sequence[str] = (),
        frame: Frame = USUAL,
    ) -> None:
        self.num_cut = 0
        self._ends = as_target or frame.ends_sources
        self._start_token_id = frame.start_token_id if as_target else None
        self._texts, self._codes = iter(texts), iter(codes)
        self._limit = limit - 1 if codes else limit
        self._whole = _whole(tokenizer, "text_target" if as_target else "text", languages, self._ends)
        self._add = None if languages is None else languages.target if as_target else languages.source

    def __iter__(self) -> Iterator[list[int]]:
        while chunk := list(itertools.islice(self._texts, CHUNK)):
            yield from map(self._coded, map(self._bounded, self._whole(chunk)))

    def _coded(self, ids: list[int]) -> list[int]:
        code = next(self._codes, None) if self._add else None
        return ids if self._add is None or code is None else self._add(ids, code)

    def _bounded(self, ids: list[int]) -> list[int]:
        ids = without_start(ids, self._start_token_id)
        if len(ids) > self._limit:
            self.num_cut += 1
        return cut_at_end(ids, self._limit, self._ends)


class SourceIds:
    """Token ids of sources, truncated according to `data.source_truncation`."""

    def __init__(
        self,
        rows: Iterable[PromptLike],
        tokenizer: Tokenizer,
        limit: int,
        truncation: Truncation,
        languages: Languages | None = None,
        frame: Frame = USUAL,
    ) -> None:
        self._ends = frame.ends_sources
        self._rows, self._truncation, self._languages = iter(rows), truncation, languages
        self._limit = limit if languages is None else limit - 1
        self._whole = _whole(tokenizer, "text", languages, self._ends)
        self._cuts = array("B")

    @property
    def all_cuts(self) -> npt.NDArray[np.uint8]:
        """What was cut from each source read so far: one bit for each kind of piece."""
        return np.frombuffer(self._cuts, dtype=np.uint8) if self._cuts else np.zeros(0, dtype=np.uint8)

    def __iter__(self) -> Iterator[list[int]]:
        while chunk := list(itertools.islice(self._rows, CHUNK)):
            whole = self._whole([row.source for row in chunk])
            yielded, cuts = fit_sources(
                chunk, whole, self._limit, self._truncation, self._whole, ends=self._ends
            )
            self._cuts.frombytes(cuts.tobytes())
            for row, ids in zip(chunk, yielded, strict=True):
                yield ids if self._languages is None else self._languages.source(ids, row.source_lang)


def fit_sources(
    rows: Sequence[PromptLike],
    whole: Sequence[list[int]],
    limit: int,
    truncation: Truncation,
    tokenize: Callable[[list[str]], list[list[int]]],
    *,
    ends: bool = True,
) -> tuple[list[list[int]], npt.NDArray[np.uint8]]:
    """Truncate the sources that are too long.

    Args:
        rows: the sources.
        whole: tokens of each source, untruncated.
        limit: largest number of tokens of a source.
        truncation: as in `encode`.
        tokenize: converts texts to tokens, as was done for `whole`.
        ends: whether the sources end in EOS.

    Returns:
        The tokens of each source, and what was cut from it: uint8 [rows], one bit for each kind of piece.
    """
    fitting, cuts = list(whole), np.zeros(len(rows), dtype=np.uint8)
    too_long = [place for place, ids in enumerate(whole) if len(ids) > limit]
    if truncation == "right":
        for place in too_long:
            fitting[place], cuts[place] = cut_at_end(whole[place], limit, ends), 1 << AT_THE_END
        return fitting, cuts
    asked = ((pieces_of(rows[place].source, rows[place].parts), len(whole[place])) for place in too_long)
    for place, shorter in zip(too_long, truncate_all(asked, limit, tokenize), strict=True):
        fitting[place], cuts[place] = shorter.ids, shorter.cuts
    return fitting, cuts


def without_start(ids: list[int], start_token_id: int | None) -> list[int]:
    """Remove the decoder's start token from a target, if the tokenizer has added it."""
    return ids[1:] if ids[:1] == [start_token_id] else ids


def cut_at_end(ids: list[int], limit: int, ends: bool = True) -> list[int]:
    """Truncate a sequence to at most `limit` tokens, keeping the EOS at its end."""
    if not ends or len(ids) <= limit:
        return ids[:limit]
    return [*ids[: limit - 1], ids[-1]]


def _whole(
    tokenizer: Tokenizer, keyword: str, languages: Languages | None, ends: bool
) -> Callable[[list[str]], list[list[int]]]:
    """Return a function that converts texts to untruncated token ids without language codes.

    Args:
        keyword: `text`, or `text_target` to use the tokenizer's target vocabulary.
        ends: whether to append EOS where the tokenizer does not; with `languages`, it is always appended.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise DataError(
            Message("the tokenizer has no EOS token, so no answer would ever end; use a tokenizer with one")
        )
    if languages is not None:
        # A multilingual tokenizer labels targets with its source language unless another one is set.
        return lambda texts: [[*ids, eos] for ids in _ids_of(tokenizer, text=texts, add_special_tokens=False)]

    def whole(texts: list[str]) -> list[list[int]]:
        all_ids = _ids_of(tokenizer, **{keyword: texts})
        if not ends:
            return [list(ids) or [eos] for ids in all_ids]
        return [ids if ids and ids[-1] == eos else [*ids, eos] for ids in all_ids]

    return whole


def _ids_of(tokenizer: Tokenizer, **options: Any) -> list[list[int]]:
    return tokenizer(**options, return_attention_mask=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]
