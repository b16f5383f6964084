"""Parsing of events.jsonl: lines to events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from loraloom.run.events.announcements import Note
from loraloom.run.events.event import Event, UnknownEvent
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

LOGGED: tuple[type[Event], ...] = (
    AdapterExport,
    CheckpointDamage,
    CheckpointSave,
    Evaluation,
    ExperimentEnd,
    FileChange,
    MemoryLimit,
    Note,
    Resume,
    TrainStep,
    TrialStart,
)
_KINDS = {kind.kind: kind for kind in LOGGED}


def read_event(line: Any) -> Event | None:
    """Return the event of a line of the log, parsed as JSON; None if it is not an object."""
    if not isinstance(line, dict):
        return None
    name = line.get("event")
    kind = _KINDS.get(name) if isinstance(name, str) else None
    version = line.get("version", 1)
    if kind is None or not isinstance(version, int) or version > kind.version:
        return UnknownEvent(line=line)
    try:
        return kind.from_json(line)
    except ValidationError:
        return UnknownEvent(line=line)


def read_events(lines: Iterable[str]) -> list[Event]:
    """Return all events of a log in order; of several with the same (step, experiment, event), only the last.

    A resumed run repeats the steps after its checkpoint, and a line truncated by a crash is skipped.
    """
    latest: dict[Any, Event] = {}
    for number, text in enumerate(lines):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        event = read_event(line)
        if event is None:
            continue
        key: Any = number
        if "step" in line:
            key = str((line["step"], line.get("experiment"), line.get("event")))
        latest.pop(key, None)
        latest[key] = event
    return list(latest.values())
