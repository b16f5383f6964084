"""split.json: which row of which file went to training, evaluation and test."""

from __future__ import annotations

from typing import Literal

from loraloom.run.documents.document import Document, Integer, JsonObject, Text

RowId = tuple[str, Integer] | tuple[str, Integer, Integer]
"""A file and a row in it, from 1; of an answer in a conversation, its turn too."""

DroppedRowRecord = tuple[str, Integer, str, Text]
"""A file, a row in it, the place of the row that is bad, and why it was left out."""


PartName = Literal["train", "eval", "test"]
PART_NAMES: tuple[PartName, ...] = ("train", "eval", "test")


class SplitRecord(Document):
    """The rows of a run.

    Args:
        files: each file's name, as the user wrote it, and its sha256.
        train, eval, test: the rows of each part, in file order.
        dropped: invalid rows that `data.on_invalid: drop` left out.
        ranges: of rows that are kept in files, in the place of `train`, `eval` and `test`: the rows of each
            part, as ranges of numbers, from 0, in the order of the files that it is taken from. A range
            begins with its first number and ends before its second.
    """

    files: dict[str, str]
    train: list[RowId]
    eval: list[RowId]
    test: list[RowId]
    dropped: list[DroppedRowRecord] = []  # noqa: RUF012 (pydantic copies it)
    ranges: dict[PartName, list[tuple[Integer, Integer]]] = {}  # noqa: RUF012

    @property
    def num_rows(self) -> dict[str, int]:
        """How many rows each part has."""
        return {part: self._num_rows(part) for part in PART_NAMES}

    def _num_rows(self, part: PartName) -> int:
        if self.ranges:
            return sum(stop - start for start, stop in self.ranges.get(part, []))
        return len(getattr(self, part))

    def to_json(self) -> JsonObject:
        """What the file has, rows as lists."""
        rows: JsonObject = {part: list(map(list, getattr(self, part))) for part in (*PART_NAMES, "dropped")}
        rows["ranges"] = {part: list(map(list, own)) for part, own in self.ranges.items()}
        return super().to_json() | {key: value for key, value in rows.items() if key in self.model_fields_set}
