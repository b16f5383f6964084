"""Events of a run, as data: one class for each kind, converted to and from lines of events.jsonl.

    {"event": "train", "time": "2026-11-27T14:34:25+00:00", "step": 1, "experiment": "wide", …}

Long-running functions take a `Report` and call it with each event; events of the run's history are also
written to events.jsonl (`Run.append_event`). A kind's version is written only if it is above 1. A line with a
newer version, an unknown kind or invalid values is read as an `UnknownEvent`, which readers ignore.
"""

from loraloom.run.events.announcements import (
    AnswerProgress,
    BaseChoices,
    CheckResults,
    Note,
    RowCounts,
    StepTiming,
    TrainingPlan,
    WarningNote,
)
from loraloom.run.events.event import Event, Report, UnknownEvent, quiet
from loraloom.run.events.log_lines import EventLog, read_event, read_events
from loraloom.run.events.logged_events import (
    AdapterExport,
    CheckpointDamage,
    CheckpointSave,
    Evaluation,
    ExperimentEnd,
    FileChange,
    MemoryLimit,
    Resume,
    TrainStep,
    TrialStart,
)

__all__ = [
    "AdapterExport",
    "AnswerProgress",
    "BaseChoices",
    "CheckResults",
    "CheckpointDamage",
    "CheckpointSave",
    "Evaluation",
    "Event",
    "EventLog",
    "ExperimentEnd",
    "FileChange",
    "MemoryLimit",
    "Note",
    "Report",
    "Resume",
    "RowCounts",
    "StepTiming",
    "TrainStep",
    "TrainingPlan",
    "TrialStart",
    "UnknownEvent",
    "WarningNote",
    "quiet",
    "read_event",
    "read_events",
]
