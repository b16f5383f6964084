"""Small runs, trained once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.trained import train_small


@pytest.fixture(scope="session")
def trained(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`trained("mt5")` → a finished run on that tiny base; `trained("mt5", "a", "b")` has two experiments."""
    made: dict[tuple[str, ...], Path] = {}

    def run(kind: str, *experiments: str) -> Path:
        key = (kind, *experiments)
        if key not in made:
            made[key] = train_small(tmp_path_factory.mktemp("trained") / "here", tiny(kind), experiments)
        return made[key]

    return run
