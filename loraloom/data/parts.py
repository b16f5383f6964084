"""The parts of a run's data."""

from __future__ import annotations

from typing import Literal

Part = Literal["train", "eval", "test"]
HeldOut = Literal["eval", "test"]

PARTS: tuple[Part, ...] = ("train", "eval", "test")
HELD_OUT: tuple[HeldOut, ...] = ("eval", "test")
