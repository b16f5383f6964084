"""The rows of a run's split as training sees them: their tokens, and what was truncated."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from loraloom.checks.data.light_tokenizer import NoTokenizerError, TextTokenizer
from loraloom.data.example import Example
from loraloom.data.sources.truncation import CUT_NAMES
from loraloom.data.splitting.split import Part, Split
from loraloom.data.token_ids import cut_at_end, fit_sources
from loraloom.recipe import Recipe
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.documents.split import SplitRecord
from loraloom.run.folder import Run
from loraloom.session.data_checks import recipe_tokenizer
from loraloom.session.locations import explain_data_location
from loraloom.session.provenance_file import read_provenance
from loraloom.text.message import Message, joined, said_by

MOST_KEPT = 2


@dataclass(frozen=True)
class SplitRow:
    """One row of a split.

    Args:
        number: number of the row in train, eval or test, counted from 1.
        where: its file and line.
        source, response: the complete texts.
        source_tokens: tokens that the encoder reads; empty if the tokenizer is not available.
        target_tokens: tokens that the decoder must predict, each of which counts in the loss; empty if the
            tokenizer is not available.
        num_source_cut, num_target_cut: number of tokens cut from source and target.
        cut: description of the parts that were cut, for people; "" if nothing was cut.
    """

    number: int
    where: str
    source: str
    response: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    num_source_cut: int
    num_target_cut: int
    cut: str


@dataclass(frozen=True)
class SplitData:
    """The data of a run.

    Args:
        recipe: recipe of the run.
        split: rows of the run.
        tokenizer: tokenizer of its base; None if it is not available.
        without_tokenizer: why the tokenizer is not available; "" if it is.
    """

    recipe: Recipe
    split: Split
    tokenizer: TextTokenizer | None
    without_tokenizer: str

    def examples(self, part: Part) -> Sequence[Example]:
        """Return the rows of a part."""
        found: Sequence[Example] = getattr(self.split, part)
        return found

    def rows(self, part: Part, numbers: list[int]) -> list[SplitRow]:
        """Return some rows of a part with their tokens.

        Args:
            numbers: numbers of the rows, from 1.
        """
        chosen = [self.examples(part)[number - 1] for number in numbers]
        settings, tokenizer = self.recipe.data, self.tokenizer
        if tokenizer is None:
            return [_plain(number, example) for number, example in zip(numbers, chosen, strict=True)]
        whole = tokenizer.source_ids([example.source for example in chosen])
        fitted, cuts = fit_sources(
            chosen,
            whole,
            settings.max_source_length,
            settings.source_truncation,
            tokenizer.source_ids,
            ends=tokenizer.ends_sources,
        )
        targets = tokenizer.target_ids([example.response for example in chosen])
        limit = settings.max_target_length
        return [
            SplitRow(
                number=number,
                where=example.where,
                source=example.source,
                response=example.response,
                source_tokens=tuple(tokenizer.tokens(kept)),
                target_tokens=tuple(tokenizer.tokens(cut_at_end(target, limit))),
                num_source_cut=len(all_of_it) - len(kept),
                num_target_cut=max(0, len(target) - limit),
                cut=_cut_words(int(bits), len(target) > limit),
            )
            for number, example, all_of_it, kept, bits, target in zip(
                numbers, chosen, whole, fitted, cuts, targets, strict=True
            )
        ]


def _plain(number: int, example: Example) -> SplitRow:
    return SplitRow(number, example.where, example.source, example.response, (), (), 0, 0, "")


def _cut_words(bits: int, is_target_cut: bool) -> str:
    named = [name for bit, name in CUT_NAMES.items() if bits >> bit & 1]
    named += [Message("the end of the response")] if is_target_cut else []
    return joined(", ", named) if named else ""


def read_split_data(run: Run) -> SplitData:
    """Read the data of a run from the files that the run started with.

    Raises:
        LoRALoomError: the run is damaged, or its data is missing or has changed.
    """
    recipe = read_run_recipe(run.recipe_file)
    known = read_provenance(run, recipe)
    with explain_data_location(run, recipe, known):
        saved = SplitRecord.read(run.split_file)
        split = Split.restore(saved, recipe.data, shown_as=run.split_file.name, folder=run.rows)
    tokenizer, why = None, ""
    try:
        tokenizer = recipe_tokenizer(recipe, may_load=True)
    except NoTokenizerError as error:
        why = said_by(error)
    return SplitData(recipe, split, tokenizer, why)


@dataclass
class SplitCache:
    """The data of the most recently viewed runs, cached because reading it is slow.

    Each run has its own lock while its data is read, so that a large run does not delay the pages of others.
    """

    _kept: OrderedDict[object, SplitData] = field(default_factory=OrderedDict)
    _readings: dict[object, threading.Lock] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def of(self, run: Run) -> SplitData:
        """Return the data of a run.

        Raises:
            LoRALoomError: as in `read_split_data`.
        """
        try:
            stat = run.split_file.stat()
            key: object = (str(run.folder), stat.st_mtime_ns, stat.st_size)
        except OSError:
            key = None  # reading the data reports the problem
        if (found := self._known(key)) is not None:
            return found
        with self._mutex:
            reading = self._readings.setdefault(key, threading.Lock())
        with reading:
            found = self._known(key)  # another page may have read the data meanwhile
            try:
                return found or self._keep(key, read_split_data(run))
            finally:
                with self._mutex:
                    self._readings.pop(key, None)

    def _known(self, key: object) -> SplitData | None:
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: object, found: SplitData) -> SplitData:
        with self._mutex:
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return found
