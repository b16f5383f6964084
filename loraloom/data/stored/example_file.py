"""Examples in files: texts one after another, and a record of fixed size for each example.

texts.bin     source, response and pieces of each example
records.bin   the positions of these texts, and the other fields of each example
keys.bin      the `source_key` of each example's source, 16 bytes
groups.bin    each example's group: the number of the first example in the row that represents the group
shared.bin    whether each example's source is a shared turn
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loraloom.data.example import Example
from loraloom.data.stored.column_file import mapped
from loraloom.run.documents.split import read_ranges

RECORD = np.dtype(
    [
        ("text", "<u8"),
        ("source", "<u4"),
        ("response", "<u4"),
        ("parts", "<u4"),
        ("row", "<u4"),
        ("line", "<i8"),  # -1 if the format has no lines
        ("turn", "<u4"),
        ("entry", "<u4"),  # number of its row among those that have examples
        ("file", "<u2"),
        ("languages", "<u2"),
        ("has_history", "u1"),
        ("answer", "<u8"),  # a hash of the response
        ("characters", "<u4"),  # of the response
    ]
)
KEY = np.dtype([("high", "<u8"), ("low", "<u8")])
NAMES = ("texts.bin", "records.bin", "keys.bin", "groups.bin", "shared.bin")


class ExampleFile:
    """The examples of one part's files, read through memory maps.

    Args:
        folder: the folder of the files.
        names: names of the data files and languages, in the result of `ExampleWriter.flush`.
        identity: a digest of the files' content.
        is_own: whether this process may write files next to them.
        keep: an object that removes the folder when nothing refers to the object; None to keep the folder.
    """

    def __init__(
        self,
        folder: Path,
        names: Mapping[str, Any],
        *,
        identity: str = "",
        is_own: bool = True,
        keep: object = None,
    ) -> None:
        self.folder, self.identity, self.is_own, self.keep = folder, identity, is_own, keep
        self._files: list[str] = names["files"]
        self.languages: list[tuple[str, str]] = [(source, target) for source, target in names["languages"]]
        self._texts = mapped(folder / NAMES[0], np.uint8)
        self.records = mapped(folder / NAMES[1], RECORD)
        self.keys = mapped(folder / NAMES[2], KEY)
        self.groups = mapped(folder / NAMES[3], np.uint32)
        self.shared = mapped(folder / NAMES[4], np.bool_)

    def __len__(self) -> int:
        return len(self.records)

    def example(self, number: int) -> Example:
        """Return the example with the given number, counted from 0."""
        (text, source, response, parts, row, line, turn, _, file, languages, has_history, *_) = self.records[
            number
        ].item()
        content = self._texts[text : text + source + response + parts].tobytes()
        first = self.records[self.groups[number]]
        source_lang, target_lang = self.languages[languages]
        return Example(
            content[:source].decode("utf-8", "surrogatepass"),
            content[source : source + response].decode("utf-8", "surrogatepass"),
            self._files[file],
            row,
            None if line < 0 else line,
            turn,
            group=repr((self._files[first["file"]], int(first["row"]))),
            has_history=bool(has_history),
            is_shared=bool(self.shared[number]),
            parts=content[source + response :],
            source_lang=source_lang,
            target_lang=target_lang,
        )


class StoredExamples(Sequence[Example]):
    """Some examples of a file, each read when it is requested.

    Args:
        file: the file with all examples.
        numbers: numbers of the selected examples, in order; by default all.
    """

    def __init__(self, file: ExampleFile, numbers: npt.NDArray[np.integer] | None = None) -> None:
        self.file = file
        self._numbers = numbers

    @property
    def numbers(self) -> npt.NDArray[np.integer]:
        """The number of each example in its file, from 0."""
        return np.arange(len(self.file), dtype=np.uint32) if self._numbers is None else self._numbers

    def __len__(self) -> int:
        return len(self.file) if self._numbers is None else len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.chosen(np.arange(*index.indices(len(self))))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self.file.example(place if self._numbers is None else int(self._numbers[place]))

    def __iter__(self) -> Iterator[Example]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_equal, self, other))

    __hash__ = None  # type: ignore[assignment]

    def chosen(self, places: npt.NDArray[np.integer]) -> StoredExamples:
        """Return the examples at the given positions in this sequence."""
        return StoredExamples(self.file, places if self._numbers is None else self._numbers[places])

    def pairs(self) -> dict[tuple[str, str], npt.NDArray[np.intp]]:
        """Map each pair of languages to the positions of its examples in this sequence."""
        own = np.ascontiguousarray(self.file.records["languages"])[self.numbers]
        return {self.file.languages[pair]: np.flatnonzero(own == pair) for pair in np.unique(own).tolist()}

    @property
    def num_entries(self) -> int:
        """Number of conversations and articles that these examples come from, ignoring other rows."""
        records = self.file.records
        of_turns = records["entry"][self.numbers[records["turn"][self.numbers] > 0]]
        return len(np.unique(of_turns))

    @property
    def num_shared(self) -> int:
        """Number of examples whose source is a turn that many conversations have."""
        return int(np.count_nonzero(self.file.shared[self.numbers]))


def _equal(own: Example, other: object) -> bool:
    return own == other


def ranges_of(examples: StoredExamples) -> str:
    """Format the numbers of examples, ascending and counted from 1, as in `SplitRecord.ranges`: `1-3,7`."""
    numbers = examples.numbers.astype(np.int64)
    ends = np.flatnonzero(np.diff(numbers, append=-1) != 1)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(ends)]
    return ",".join(
        f"{first}-{last}" if first < last else str(first)
        for first, last in zip((numbers[starts] + 1).tolist(), (numbers[ends] + 1).tolist(), strict=True)
    )


def in_ranges(examples: StoredExamples, ranges: str) -> StoredExamples:
    """Return the examples of a file to which a result of `ranges_of` refers.

    Args:
        examples: all examples of the file.
        ranges: as returned by `ranges_of` for some of them.
    """
    numbers = itertools.chain.from_iterable(read_ranges(ranges))
    bounds = np.fromiter(numbers, np.int64).reshape(-1, 2) - 1
    lengths = bounds[:, 1] - bounds[:, 0] + 1
    before = np.repeat(bounds[:, 0] - (np.cumsum(lengths) - lengths), lengths)
    return examples.chosen((before + np.arange(lengths.sum())).astype(np.uint32))


def count_entries_together(parts: Iterable[StoredExamples]) -> int:
    """Count the conversations and articles that the examples of several parts come from."""
    by_file: dict[int, list[StoredExamples]] = {}
    for part in parts:
        by_file.setdefault(id(part.file), []).append(part)
    return sum(
        StoredExamples(own[0].file, np.concatenate([each.numbers for each in own])).num_entries
        for own in by_file.values()
    )
