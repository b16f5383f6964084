"""Finished runs without checkpoints: what is damaged in them is said by every verb, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.commands.report import write_report
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.recipe.reading import read_run_recipe
from loraloom.run.events import Event, FileChange, WarningNote
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files
from loraloom.session.adapter_names import adapters_of
from loraloom.session.repair import record_finished

OLD = Path(__file__).parents[1] / "old_runs" / "v0.1"
WEIGHTS = "adapter_model.safetensors"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.fixture
def run(trained: Callable[..., Path], tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(trained("mt5"), tmp_path / "run")))


def told_by_resume(run: Run) -> dict[str, str]:
    told: dict[str, str] = {}

    def report(event: Event) -> None:
        if isinstance(event, FileChange):
            told[event.path] = event.what

    train(read_run_recipe(run.recipe_file), resume=run.folder, report=report)
    return told


def test_damaged_sums_are_kept_aside_and_cost_no_training(run: Run) -> None:
    weights = run.adapters / "main" / WEIGHTS
    before = (weights.stat().st_mtime_ns, run.result_file.stat().st_mtime_ns)
    flip(run.sums_file)
    damaged = run.sums_file.read_bytes()
    assert "its changed content was copied to changed/.sums.json" in told_by_resume(run)[".sums.json"]
    assert (run.changed / ".sums.json").read_bytes() == damaged
    assert (weights.stat().st_mtime_ns, run.result_file.stat().st_mtime_ns) == before
    assert changed_files(run) == []
    assert told_by_resume(run) == {}


def test_what_had_failed_is_verified_like_what_is_done(run: Run) -> None:
    kept = run.failed / "wild" / WEIGHTS
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"what it had learnt")
    record_finished(run)
    flip(kept)
    assert told_by_resume(run) == {
        f"failed/wild/{WEIGHTS}": "it is left as it is, because no checkpoint contains it"
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"adapters/main/{WEIGHTS}", f"adapters/main/{WEIGHTS} has changed since the run wrote it"),
        (
            "adapters/main/adapter_config.json",
            "adapter_config.json has changed since the run wrote it",
        ),
        (".sums.json", ".sums.json is damaged"),
        ("adapters/main/README.md", ""),  # a card is anybody's to write
        ("checks.json", ""),
    ],
)
def test_whoever_takes_an_adapter_is_told_if_it_has_changed(run: Run, name: str, said: str) -> None:
    recipe = read_run_recipe(run.recipe_file)
    assert adapters_of(run, recipe, None) == (["main"], [])
    flip(run.folder / name)
    notes = adapters_of(run, recipe, ["main"])[1]
    assert len(notes) == bool(said)
    assert all(said in note for note in notes)


@pytest.mark.parametrize("name", ["result.json", ".sums.json"])
def test_a_report_of_changed_files_says_so(run: Run, name: str) -> None:
    warnings: list[str] = []

    def report(event: Event) -> None:
        if isinstance(event, WarningNote):
            warnings.append(event.message)

    write_report(run.folder, report=report)
    assert warnings == []
    file = run.folder / name
    file.write_bytes(file.read_bytes().replace(b"1", b"2", 1))
    write_report(run.folder, report=report)
    assert [message.partition(" ")[0] for message in warnings] == [name]


def test_a_range_test_is_not_trained_on_as_if_it_were_a_run(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(OLD / "range_test", tmp_path / "range_test"))
    with pytest.raises(RunError, match="is a range test") as refused:
        train(read_run_recipe(folder / "recipe.yaml"), resume=folder)
    assert "`loraloom find-lr RECIPE`" in str(refused.value)
    record_finished(Run(folder))
    flip(folder / "range_test.json")
    assert changed_files(Run(folder)) == ["range_test.json"]
