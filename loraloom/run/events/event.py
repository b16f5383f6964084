"""What every kind of event has: a name, a version, and its line in events.jsonl."""

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
        time: when it was written to the log, with its zone; empty for one that was not.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    kind: ClassVar[str] = ""
    version: ClassVar[int] = 1
    # Pushed to the disk: a resume begins after a save, and follows the limits that memory set.
    is_durable: ClassVar[bool] = False

    time: str = field(default="", compare=False)

    def at(self, time: str) -> Self:
        """The same event, written at this time."""
        return replace(self, time=time)

    def to_json(self) -> JsonObject:
        """The line of the log: kind, time, then the fields in their order, as values of JSON."""
        version = {"version": self.version} if self.version > 1 else {}
        return {"event": self.kind, **version, **_adapter(type(self)).dump_python(self)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """The event of a line that has this kind.

        Raises:
            ValidationError: a field is missing or has a value of another type.
        """
        event: Self = _adapter(cls).validate_python(cls._arguments(line))
        return event

    @classmethod
    def _arguments(cls, line: Mapping[str, Any]) -> JsonObject:
        return {each.name: line[each.name] for each in fields(cls) if each.name in line}


Report = Callable[[Event], None]
"""Told of every event as it happens: `report(TrainStep(step=3, experiment="wide", …))`."""


def quiet(event: Event) -> None:
    """A `Report` that goes nowhere."""


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """A line that this version cannot interpret; kept as it is.

    Args:
        line: what it holds.
    """

    line: Mapping[str, Any]

    def to_json(self) -> JsonObject:
        """The line as it was read."""
        return dict(self.line)


_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def _adapter(kind: type[Event]) -> TypeAdapter[Any]:
    if kind.kind not in _ADAPTERS:  # made when it is needed: for all of them it would cost every start
        _ADAPTERS[kind.kind] = TypeAdapter(kind)
    return _ADAPTERS[kind.kind]
