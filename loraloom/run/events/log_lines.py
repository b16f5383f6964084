"""Parsing of events.jsonl: conversion of its lines to events."""

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
    """Return the event in a line of the log, already parsed as JSON; None if it is not a JSON object."""
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


class EventLog:
    """The events of a log, in order; of those with the same (step, experiment, event), only the last.

    Events repeat because a resumed run repeats the steps after its checkpoint. A line that was truncated by a
    crash is skipped.
    """

    def __init__(self) -> None:
        self._latest: dict[Any, Event] = {}
        self._num_lines = 0

    def add(self, text: str) -> None:
        """Read one more line."""
        self._num_lines += 1
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return
        event = read_event(line)
        if event is None:
            return
        key: Any = self._num_lines
        if "step" in line:
            key = str((line["step"], line.get("experiment"), line.get("event")))
        self._latest.pop(key, None)
        self._latest[key] = event

    @property
    def events(self) -> list[Event]:
        """All events so far."""
        return list(self._latest.values())


def read_events(lines: Iterable[str]) -> list[Event]:
    """Return the events of a log, in the order and with the omissions described in `EventLog`."""
    log = EventLog()
    for text in lines:
        log.add(text)
    return log.events
