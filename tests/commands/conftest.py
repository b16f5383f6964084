"""Small runs, trained once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.trained import train_small

# What a multilingual base must be told of rows that do not say it.
DIRECTIONS = {
    "mbart": {"source_lang": "zh_CN", "target_lang": "en_XX"},
    "m2m100": {"source_lang": "zho_Hans", "target_lang": "eng_Latn"},
}


@pytest.fixture(scope="session")
def trained(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`trained("mt5")` → a finished run on that tiny base; `trained("mt5", "a", "b")` has two experiments."""
    made: dict[tuple[str, ...], Path] = {}

    def run(kind: str, *experiments: str) -> Path:
        key = (kind, *experiments)
        if key not in made:
            folder = tmp_path_factory.mktemp("trained") / "here"
            made[key] = train_small(folder, tiny(kind), experiments, **DIRECTIONS.get(kind, {}))
        return made[key]

    return run
