"""Configuration of a model process: a run or adapters, and how many answers it generates together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from loraloom.serving.limits import MAX_ROWS


@dataclass(frozen=True)
class ModelConfiguration:
    """Configuration of a model process.

    Args:
        run: a run directory; None for adapters without a run.
        base: current location of the run's base, if it was moved; without a run, the base to load.
        adapters: adapters as `NAME=FOLDER`; with a run, in addition to the run's own adapters.
        sets: settings as `key=value`; allowed only without a run.
        changes: later changes, in order, as (name, folder) for an added adapter, or (name, None) for a
            removed one.
        max_rows: maximum number of answers generated together.
    """

    run: str | None
    base: str | None = None
    adapters: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    changes: tuple[tuple[str, str | None], ...] = ()
    max_rows: int = MAX_ROWS

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ModelConfiguration:
        """Read a JSON object that `to_json` returned."""
        lists = {key: tuple(value[key]) for key in ("adapters", "sets")}
        changes = tuple((name, folder) for name, folder in value["changes"])
        return cls(**{**value, **lists, "changes": changes})

    def changed(self, name: str, folder: str | None) -> ModelConfiguration:
        """Return the configuration with one more change, so that a restarted process has the same models."""
        return replace(self, changes=(*self.changes, (name, folder)))
