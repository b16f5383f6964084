"""Whatever stands in a run's files, a report is written or a message says which file is damaged."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.report import FORMATS
from loraloom.errors import LoRALoomError
from loraloom.report.content import read_content
from tests.report.other_runs import make_range_test, make_search
from tests.report.runs import make_run

STRANGE: tuple[Any, ...] = (None, "x", -1, 0, float("inf"), float("nan"), 10**400, [], {}, [[]], True)
FEW = 3
# Strange values at each place; by turns, so that all of them come up.
EACH = 3


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a document; of long lists to the first few."""
    yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from places(value, (*path, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree[:FEW]):
            yield from places(value, (*path, index))


def replaced(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(tree)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    "file", ["search.json", "range_test.json", "result.json", "compare/test.json", "checks.json"]
)
def test_a_strange_value_anywhere_is_shown_or_refused(tmp_path: Path, file: str) -> None:
    make = {"search.json": make_search, "range_test.json": make_range_test}.get(file, make_run)
    run = make(tmp_path / "run")
    path = run.folder / file
    document = json.loads(path.read_text(encoding="utf-8"))
    tried = 0
    for number, place in enumerate(places(document)):
        for strange in itertools.islice(itertools.cycle(STRANGE), 4 * number, 4 * number + EACH):
            path.write_text(json.dumps(replaced(document, place, strange)), encoding="utf-8")
            format = "the content"
            try:  # as `render_report`, which would read the files once for each format
                content = read_content(run.folder)
                for format in ("html", "md"):
                    FORMATS[format](content, run)
            except LoRALoomError:
                pass
            except Exception as error:
                raise AssertionError(f"{file} {place} = {str(strange)[:20]}: {format}") from error
            tried += 1
    assert tried > 50
