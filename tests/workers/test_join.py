"""A process that joins a run reads documents that the process of the run is replacing."""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loraloom.errors import LoRALoomError
from loraloom.run.folder import Run
from loraloom.session.locations import Relocation
from loraloom.workers import join
from loraloom.workers.join import _wait_for
from loraloom.workers.worker_material import load_material
from tests.search.small import run_search, write_recipe_file


@pytest.fixture(scope="module")
def finished(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search, its recipe and its rows."""
    folder = tmp_path_factory.mktemp("joined")
    run_search(write_recipe_file(folder, tiny("mt5")), folder / "run", num_trials=1)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Iterator[Run]:
    """A copy of the search, which another thread holds."""
    own = Run(Path(shutil.copytree(finished / "run", tmp_path / "run")))
    with own.locked():
        yield own


@pytest.mark.parametrize("name", ["provenance.json", "recipe.yaml"])
@pytest.mark.parametrize("how", ["missing", "empty", "unreadable"])
def test_a_document_that_cannot_be_read_for_a_moment_ends_no_process_that_joins(
    run: Run, name: str, how: str
) -> None:
    file, aside = run.folder / name, run.folder / "aside"
    file.rename(aside)
    if how == "empty":
        file.touch()
    elif how == "unreadable":
        file.mkdir()

    def mend() -> None:
        if how == "unreadable":
            file.rmdir()
        aside.replace(file)

    timer = threading.Timer(0.5, mend)
    timer.start()
    assert _wait_for(run.folder).folder == run.folder
    timer.join()


@pytest.mark.parametrize("name", ["provenance.json", "recipe.yaml", "split.json", "space.yaml"])
def test_a_document_that_cannot_be_read_for_a_moment_does_not_keep_a_worker_from_reading_the_run(
    run: Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(errno.ESTALE, "Stale file handle")] * 2)
    plain = Path.open

    def opening(path: Path, *args: Any, **options: Any) -> Any:
        if path == run.folder / name and (error := next(failures, None)) is not None:
            raise error
        return plain(path, *args, **options)

    monkeypatch.setattr(Path, "open", opening)
    assert load_material(run, Relocation()).capacity > 0
    assert next(failures, None) is None


def test_a_document_that_stays_damaged_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "SECONDS_FOR_DOCUMENTS", 0.3)
    run.provenance_file.write_bytes(b"{")
    with pytest.raises(LoRALoomError, match=r"provenance\.json: cannot be read"):
        _wait_for(run.folder)
