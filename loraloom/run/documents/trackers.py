"""trackers/runs.json: each experiment's run in each tracker, which a resumed run continues."""

from __future__ import annotations

from typing import ClassVar

from loraloom.run.documents.document import Document

FOLDER = "trackers"
FILE = "runs.json"
FORMAT = 1


class TrackerRuns(Document):
    """The runs in all trackers.

    Args:
        runs: tracker → experiment → ID of the tracker's run that shows the experiment.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)

    format: int
    runs: dict[str, dict[str, str]]
