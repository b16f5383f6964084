"""split.json: the rows of each file that are used for training, evaluation and test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import StringConstraints

from loraloom.run.documents.document import Document, Integer, JsonObject, Text

RowId = tuple[str, Integer] | tuple[str, Integer, Integer]
"""A file and a row in it, from 1; for an answer in a conversation, also its turn."""

DroppedRowRecord = tuple[str, Integer, str, Text]
"""A file, a row in it, the invalid part of the row, and why it was left out."""


Ranges = Annotated[str, StringConstraints(pattern=r"^(\d+(-\d+)?(,\d+(-\d+)?)*)?$")]
"""Ascending numbers as one text, `1-56,58,60-99`, because there may be a million."""

PartName = Literal["train", "eval", "test"]
PART_NAMES: tuple[PartName, ...] = ("train", "eval", "test")


class SplitRecord(Document):
    """The split of a run: which rows each part has.

    Args:
        files: sha256 of each file, by the file's name as the user wrote it.
        train, eval, test: the rows of each part, in file order.
        dropped: invalid rows that `data.on_invalid: drop` left out.
        ranges: the rows of each part by number, counted from 1 through all files that the part is read
            from, in their order, as in `1-56,58`; used instead of `train`, `eval` and `test` if the rows are
            kept in files.
    """

    files: dict[str, str]
    train: list[RowId]
    eval: list[RowId]
    test: list[RowId]
    dropped: list[DroppedRowRecord] = []  # noqa: RUF012 (pydantic copies it)
    ranges: dict[PartName, Ranges] = {}  # noqa: RUF012

    @property
    def num_rows(self) -> dict[str, int]:
        """The number of rows in each part."""
        return {part: self._num_rows(part) for part in PART_NAMES}

    def _num_rows(self, part: PartName) -> int:
        if self.ranges:
            return sum(last - first + 1 for first, last in read_ranges(self.ranges.get(part, "")))
        return len(getattr(self, part))

    def to_json(self) -> JsonObject:
        """Return the file's content, with rows as lists."""
        rows: JsonObject = {part: list(map(list, getattr(self, part))) for part in (*PART_NAMES, "dropped")}
        return super().to_json() | {key: value for key, value in rows.items() if key in self.model_fields_set}


def read_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of each range."""
    for each in text.split(",") if text else ():
        first, _, last = each.partition("-")
        yield int(first), int(last or first)
