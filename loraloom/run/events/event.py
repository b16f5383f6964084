"""The common interface of all events: name, version, and line in events.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter

from loraloom.run.documents.document import JsonObject


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened.

    Args:
        time: time at which it was written to the log, with time zone; empty if it was not logged.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1
    # Flushed to disk, because a resume starts after a save and observes the memory limits found.
    is_durable: ClassVar[bool] = False

    time: str = field(default="", compare=False)

    def at(self, time: str) -> Self:
        """Return a copy of the event with the time at which it is written to the log."""
        return replace(self, time=time)

    def to_json(self) -> JsonObject:
        """Return the line of the log: kind, time, then the fields in their order, as JSON values."""
        version = {"version": self.version} if self.version > 1 else {}
        return {"event": self.kind, **version, **_adapter(type(self)).dump_python(self)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Return the event that a line of this kind contains.

        Raises:
            ValidationError: a field is missing or has a value of another type.
        """
        event: Self = _adapter(cls).validate_python(cls._arguments(line))
        return event

    @classmethod
    def _arguments(cls, line: Mapping[str, Any]) -> JsonObject:
        return {each.name: line[each.name] for each in fields(cls) if each.name in line}


Report = Callable[[Event], None]
"""A function that is called with every event: `report(TrainStep(step=3, experiment="wide", …))`."""


def quiet(event: Event) -> None:
    """Ignore every event."""


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """A line that this version cannot interpret, kept unchanged.

    Args:
        line: its content.
    """

    line: Mapping[str, Any]

    def to_json(self) -> JsonObject:
        """Return the line as it was read."""
        return dict(self.line)


_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def _adapter(kind: type[Event]) -> TypeAdapter[Any]:
    if kind.kind not in _ADAPTERS:  # created on first use, so that not every start pays for it
        _ADAPTERS[kind.kind] = TypeAdapter(kind)
    return _ADAPTERS[kind.kind]
