"""trackers/runs.json: each tracker's run for each experiment, which a resume continues."""

from __future__ import annotations

from typing import ClassVar

from loraloom.run.documents.document import Document

FOLDER = "trackers"
FILE = "runs.json"
FORMAT = 1


class TrackerRuns(Document):
    """The runs of all trackers.

    Args:
        runs: tracker → experiment → id of the run that shows it.
    """

    FORMATS: ClassVar[tuple[int, ...]] = (FORMAT,)

    format: int
    runs: dict[str, dict[str, str]]
