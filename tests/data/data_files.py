"""Good rows, and the message of what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from loraloom.data.splitting.split import Split
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.run.documents.split import SplitRecord


def good_rows(number: int = 20) -> list[dict[str, Any]]:
    return [{"instruction": f"问题 {i}", "response": f"回答 {i}"} for i in range(1, number + 1)]


def refusal(act: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The message of the DataError that a call raises."""
    with pytest.raises(DataError) as caught:
        act(*args, **kwargs)
    return str(caught.value)


def restored(saved: dict[str, Any], settings: DataSettings) -> Split:
    """The split that a split.json of this content describes."""
    return Split.restore(SplitRecord.model_validate(saved), settings)


def write_lines(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
