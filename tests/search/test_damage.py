"""A search that was damaged says so, file by file; what cannot be made again is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run.events import Event, FileChange
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files
from tests.search.small import SearchView, fruits, run_search
from tests.search.test_interruptions import search_until


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture
def run(searched: SearchView, tmp_path: Path) -> Path:
    return Path(shutil.copytree(searched(), tmp_path / "run"))


class Messages:
    """A `Report` that remembers which files were said to have changed."""

    def __init__(self) -> None:
        self.changed: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, FileChange):
            self.changed[event.path] = event.what


def contents(run: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(run)): file.read_bytes()
        for file in run.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


def deciding(run: Path) -> Iterator[str]:
    """What no other file has."""
    yield from ("provenance.json", "search.json", "result.json")
    for file in sorted((run / "adapters").rglob("*")):
        if file.is_file() and file.name != "README.md":
            yield str(file.relative_to(run))


def test_every_file_of_a_finished_search_is_verified(run: Path, recipe: Path) -> None:
    told, before = Messages(), contents(run)
    run_search(recipe, run, resume=True, report=told)
    assert (told.changed, contents(run)) == ({}, before)
    for name in deciding(run):
        content = (run / name).read_bytes()
        flip(run / name)
        # A bit of provenance.json may also be one of the word that says it is a search.
        how = "changed since the search wrote it|cannot be read|is damaged"
        with pytest.raises(RunError, match=rf"{re.escape(name)}: ({how})|this run is not a search"):
            run_search(recipe, run, resume=True)
        (run / name).write_bytes(content)
    run_search(recipe, run, resume=True)
    assert contents(run) == before


def test_all_that_is_damaged_is_named_at_once_and_nothing_is_touched(run: Path, recipe: Path) -> None:
    best = fruits(run).best
    flip(run / "adapters" / best / "adapter_model.safetensors")
    (run / "result.json").unlink()
    shutil.rmtree(run / "adapters" / "trial-0000")
    before = contents(run)
    with pytest.raises(RunError) as refused:
        run_search(recipe, run, resume=True)
    said = str(refused.value)
    assert f"adapters/{best}/adapter_model.safetensors" in said
    assert "adapters/trial-0000/adapter_config.json" in said
    assert "result.json" in said
    assert "Restore the original content, or start a new search" in said
    assert contents(run) == before


@pytest.mark.parametrize(
    ("name", "inflict"),
    [
        ("recipe.yaml", flip),
        ("split.json", flip),
        ("split.json", Path.unlink),
        ("space.yaml", flip),
        ("best.yaml", Path.unlink),
    ],
)
def test_what_follows_from_other_files_is_made_again(
    name: str, inflict: Callable[[Path], None], run: Path, recipe: Path
) -> None:
    before, told = contents(run), Messages()
    inflict(run / name)
    damaged = (run / name).read_bytes() if (run / name).exists() else None
    run_search(recipe, run, resume=True, report=told)
    assert list(told.changed) == [name]
    now = contents(run)
    assert now.pop(f"changed/{name}", None) == damaged
    assert now == before


@pytest.mark.parametrize("name", ["checks.json", "adapters/trial-0000/README.md"])
def test_what_is_for_reading_is_said_and_stays(name: str, run: Path, recipe: Path) -> None:
    told = Messages()
    (run / name).write_text("mine", encoding="utf-8")
    run_search(recipe, run, resume=True, report=told)
    assert told.changed == {name: "it is left as it is, because nothing depends on it"}
    assert (run / name).read_text(encoding="utf-8") == "mine"


def test_damaged_sums_are_said_kept_aside_and_made_of_what_is_there(run: Path, recipe: Path) -> None:
    told = Messages()
    flip(run / ".sums.json")
    damaged = (run / ".sums.json").read_bytes()
    run_search(recipe, run, resume=True, report=told)
    assert "no file could be verified with it" in told.changed[".sums.json"]
    assert (run / "changed" / ".sums.json").read_bytes() == damaged
    assert changed_files(Run(run)) == []
    flip(run / "search.json")
    with pytest.raises(RunError, match=r"search\.json"):
        run_search(recipe, run, resume=True)


def test_without_sums_an_adapter_that_cannot_be_read_is_still_noticed(run: Path, recipe: Path) -> None:
    """As in a search of 0.1, which sealed less, or in one whose sums were lost."""
    (run / ".sums.json").unlink()
    (run / "adapters" / "trial-0001" / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(RunError, match=r"adapters/trial-0001: changed since the search wrote it"):
        run_search(recipe, run, resume=True)


@pytest.mark.parametrize("name", ["search.json", "adapters/{ended}/adapter_model.safetensors"])
def test_a_search_that_is_under_way_is_verified_too(name: str, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    search_until("loraloom.training.exporting:write_adapter", 2, recipe, run)
    (ended,) = [path.name for path in (run / "adapters").iterdir()]
    name = name.format(ended=ended)
    flip(run / name)
    with pytest.raises(RunError, match=re.escape(f"{name}: changed since the search wrote it")):
        run_search(recipe, run, resume=True)


def test_a_recipe_that_was_damaged_under_way_is_made_again(
    searched: SearchView, recipe: Path, tmp_path: Path
) -> None:
    run, told = tmp_path / "run", Messages()
    search_until("loraloom.training.loop:save_checkpoint", 2, recipe, run)
    (run / "recipe.yaml").write_text("seed: 7\n", encoding="utf-8")
    run_search(recipe, run, resume=True, report=told)
    assert list(told.changed) == ["recipe.yaml"]
    ours, theirs = fruits(run), fruits(searched())
    assert (ours.trials, ours.best) == (theirs.trials, theirs.best)
    assert json.loads((run / "result.json").read_bytes())["experiments"].keys() == theirs.trials.keys()
