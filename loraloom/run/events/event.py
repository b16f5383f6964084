"""What every kind of event has: a name, a version, and its line in events.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, TypeAdapter

KINDS: dict[str, type[Event]] = {}
"""Every kind of event by the name that its lines have."""


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

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.kind:
            KINDS[cls.kind] = cls

    def at(self, time: str) -> Self:
        """The same event, written at this time."""
        return replace(self, time=time)

    def to_json(self) -> dict[str, Any]:
        """The line of the log: kind, time, then the fields in their order."""
        version = {"version": self.version} if self.version > 1 else {}
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "time"}
        return {"event": self.kind, **version, "time": self.time, **own}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Event:
        """The event of a line that has this kind.

        Raises:
            ValidationError: a field is missing or has a value of another type.
        """
        return _adapter(cls.kind).validate_python(cls._arguments(line))

    @classmethod
    def _arguments(cls, line: Mapping[str, Any]) -> dict[str, Any]:
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

    def to_json(self) -> dict[str, Any]:
        """The line as it was read."""
        return dict(self.line)


@cache
def _adapter(kind: str) -> TypeAdapter[Event]:
    return TypeAdapter(KINDS[kind])
