"""split.json: which row of which file went to training, evaluation and test."""

from __future__ import annotations

from loraloom.run.documents.document import Document, Integer, JsonObject, Text

RowId = tuple[str, Integer] | tuple[str, Integer, Integer]
"""A file and a row in it, from 1; of an answer in a conversation, its turn too."""

DroppedRowRecord = tuple[str, Integer, str, Text]
"""A file, a row in it, the place of the row that is bad, and why it was left out."""


class SplitRecord(Document):
    """The rows of a run.

    Args:
        files: each file's name, as the user wrote it, and its sha256.
        train, eval, test: the rows of each part, in file order.
        dropped: invalid rows that `data.on_invalid: drop` left out.
    """

    files: dict[str, str]
    train: list[RowId]
    eval: list[RowId]
    test: list[RowId]
    dropped: list[DroppedRowRecord] = []  # noqa: RUF012 (pydantic copies it)

    @property
    def num_rows(self) -> dict[str, int]:
        """How many rows each part has."""
        return {"train": len(self.train), "eval": len(self.eval), "test": len(self.test)}

    def to_json(self) -> JsonObject:
        """What the file has, rows as lists."""
        rows = {part: list(map(list, getattr(self, part))) for part in ("train", "eval", "test", "dropped")}
        return super().to_json() | {key: value for key, value in rows.items() if key in self.model_fields_set}
