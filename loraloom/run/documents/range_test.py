"""range_test.json: the result of a learning-rate range test."""

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
    """Result of training with one learning rate.

    Args:
        learning_rate: the rate, which is constant after a short warm-up.
        eval_loss: loss on the eval rows after training; None if training at this rate failed.
        gain: the base's loss minus `eval_loss`; None if `eval_loss` is None.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    learning_rate: Annotated[float, Field(gt=0, lt=1e6)]
    eval_loss: float | None
    gain: float | None


class RangeTest(Document):
    """The result of a range test: a learning rate to use, and why.

    Args:
        run: folder of the test's own run, which contains the file; not stored in it.
        experiment: the experiment whose settings were used.
        num_steps: number of steps at every rate.
        num_eval_rows: number of rows over which the eval loss was computed.
        base_eval_loss: loss without an adapter.
        results: results, ordered by learning rate.
        suggestion: the suggested rate; None if no rate helped.
        reason: reason for the suggestion, in one sentence.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)
    REMEDY: ClassVar[str] = Message("`loraloom check RECIPE --find-lr` runs a new range test.")

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
        """Return the file's content."""
        return to_stored_json({key: value for key, value in self.to_json().items() if key != "run"})
