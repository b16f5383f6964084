"""Results of the functions in `loraloom.api`: plain, immutable values that need no torch."""

from loraloom.results.after_training import (
    Answer,
    CardResult,
    CompareResult,
    DemoResult,
    ExportResult,
    MergeResult,
    ModelResult,
    PushResult,
    RowResult,
    RunSummary,
)
from loraloom.results.training import (
    CheckResult,
    ExperimentResult,
    ScriptResult,
    SearchResult,
    TrainResult,
    TrialResult,
)

__all__ = [
    "Answer",
    "CardResult",
    "CheckResult",
    "CompareResult",
    "DemoResult",
    "ExperimentResult",
    "ExportResult",
    "MergeResult",
    "ModelResult",
    "PushResult",
    "RowResult",
    "RunSummary",
    "ScriptResult",
    "SearchResult",
    "TrainResult",
    "TrialResult",
]
