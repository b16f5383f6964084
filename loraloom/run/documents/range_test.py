"""range_test.json: what a range test of the learning rate found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from loraloom.run.documents.document import Document, Text, to_stored_json
from loraloom.text.message import Message

FILE = "range_test.json"
FORMAT = 1


@dataclass(frozen=True)
class RateResult:
    """What one rate did.

    Args:
        learning_rate: constant, after a short warm-up.
        eval_loss: after the steps; None if the training did not stay finite.
        gain: by how much that is below the base's.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    learning_rate: Annotated[float, Field(gt=0, lt=1e6)]
    eval_loss: float | None
    gain: float | None


class RangeTest(Document):
    """A learning rate to use, and why.

    Args:
        run: its own run; not in the file, which lies there.
        experiment: whose settings were tried.
        num_steps: that every rate had.
        num_eval_rows: the eval loss is over so many.
        base_eval_loss: without an adapter.
        results: in the order of the rates.
        suggestion: None if no rate helped.
        reason: one sentence.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)
    REMEDY: ClassVar[str] = Message("`loraloom check RECIPE --find-lr` makes another.")

    run: str = ""
    format: int
    experiment: str
    num_steps: int
    num_eval_rows: int
    base_eval_loss: float
    results: list[RateResult]
    suggestion: float | None
    reason: Text

    def text(self) -> str:
        """The file's content."""
        return to_stored_json({key: value for key, value in self.to_json().items() if key != "run"})
