"""All ranks have the packages of rank 0 in the same versions, that which quantizes the base too."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from loraloom.distributed.ranks import Ranks
from loraloom.errors import RunError
from loraloom.recipe.reading import parse_recipe
from loraloom.session import provenance as origin
from loraloom.session.leading import announce_run
from loraloom.session.rank_identity import require_same_versions
from loraloom.session.run_session import create_session
from tests.commands.trained import ROWS


@dataclass(frozen=True)
class Leader(Ranks):
    """Rank 0 of two, and what it has announced."""

    size: int = 2
    said: dict[str, Any] = field(default_factory=dict)

    def announce(self, name: str, value: Any) -> None:
        self.said[name] = value


@pytest.mark.parametrize(
    ("quantization", "package"),
    [("nf4", "bitsandbytes"), ("int8", "bitsandbytes"), ("torchao_int8", "torchao")],
)
def test_the_package_that_quantizes_the_base_is_compared(
    quantization: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: dict[str, str] = {}
    monkeypatch.setattr(origin, "version", lambda name: installed.get(name, "1"))
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    text = f"{{model: m, data: {{train: rows.json, eval: 4}}, quantization: {quantization}}}"
    recipe = parse_recipe(text, name="recipe.yaml").in_folder(tmp_path)
    leader = Leader()
    with create_session(recipe, tmp_path / "run", None) as session:
        announce_run(leader, session)
    announced = leader.said["run"]["versions"]
    assert announced[package] == "1"
    require_same_versions(announced)
    installed[package] = "2"
    with pytest.raises(RunError, match=rf"{package}.*differs from rank 0"):
        require_same_versions(announced)
