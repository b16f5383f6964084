"""What happens in a run, as data: one class a kind of event, to and from the lines of events.jsonl.

    {"event": "train", "time": "2026-11-27T14:34:25+00:00", "step": 1, "experiment": "wide", …}

Functions that take long are given a `Report` and call it with each event; what belongs to the run's
history is written to events.jsonl too (`Run.append_event`). A kind's version is written if it is above 1.
A line of a newer version, of an unknown kind or with damaged values is read as an `UnknownEvent`, which
readers pass over.
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
from loraloom.run.events.log_lines import read_event, read_events
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
