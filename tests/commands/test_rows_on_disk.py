"""A training with rows in files: the adapters of one with rows in memory, and a resume without the files."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands import find_lr
from loraloom.commands.find_lr import find_learning_rate
from loraloom.commands.search import search
from loraloom.commands.train import train
from loraloom.data.splitting.split import stored_because
from loraloom.data.stored import encoded_file, row_files, storage
from loraloom.errors import Interrupted, ModelError
from loraloom.recipe import Recipe
from loraloom.run.documents.provenance import Provenance
from loraloom.run.events import Event, FileChange, Note, TrainStep
from loraloom.run.folder import Run
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from loraloom.training.signals import StopRequest
from tests.commands.trained import ROWS


@pytest.fixture
def recipe_of(tmp_path: Path, tiny: Callable[[str], Path]) -> Callable[[str], Recipe]:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")

    def make(keep_rows: str) -> Recipe:
        return Recipe.model_validate(
            {
                "model_name_or_path": str(tiny("mt5")),
                "data": {"train": str(tmp_path / "rows.json"), "eval": 4, "keep_rows": keep_rows},
                "lora": {"r": 2},
                "training": {"max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 2},
                "device": "cpu",
            }
        )

    return make


def test_adapters_are_those_of_rows_in_memory_and_a_resume_reads_the_rows_again(
    recipe_of: Callable[[str], Recipe], tmp_path: Path
) -> None:
    in_memory = train(recipe_of("memory"), out=tmp_path / "memory").run
    stop, notes = StopRequest(), list[str]()

    def report(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 2:
            stop.stop()
        if isinstance(event, Note):
            notes.append(str(event.message))

    with pytest.raises(Interrupted):
        train(recipe_of("disk"), out=tmp_path / "disk", report=report, stop=stop)
    run = Run(tmp_path / "disk")
    assert "rows are kept in files, because `data.keep_rows` is `disk`" in notes
    choices = json.loads(run.provenance_file.read_text(encoding="utf-8"))["choices"]
    assert choices["rows"]["value"] == {"id": "in files of the run"}
    split = json.loads(run.split_file.read_text(encoding="utf-8"))
    assert split["train"] == []
    assert split["ranges"]["train"]
    shutil.rmtree(run.rows)
    train(recipe_of("disk"), resume=run.folder)
    adapters = [each.adapters / "main" / "adapter_model.safetensors" for each in (in_memory, run)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()
    assert len(list(run.rows.glob("tokens-*"))) == 2


def test_a_range_test_says_that_its_run_keeps_no_rows(
    recipe_of: Callable[[str], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_lr, "NUM_STEPS", 2)
    found = find_learning_rate(recipe_of("disk"), out=tmp_path / "run")
    run = Run(Path(found.run))
    assert Provenance.read(run.provenance_file).choices["rows"].value == "in temporary files"
    assert not run.rows.exists()


def test_a_run_of_0_1_on_large_data_is_resumed_and_its_split_restored_from_rows_in_memory(
    recipe_of: Callable[[str], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its split.json names every row, as all do whose data is small today."""
    recipe, stop, said = recipe_of("auto"), StopRequest(), list[Event]()
    expected = train(recipe, out=tmp_path / "expected").run

    def report(event: Event) -> None:
        if isinstance(event, TrainStep) and event.step == 2:
            stop.stop()

    with pytest.raises(Interrupted):
        train(recipe, out=tmp_path / "run", report=report, stop=stop)
    run = Run(tmp_path / "run")
    text = run.split_file.read_text(encoding="utf-8")
    monkeypatch.setattr(storage, "MOST_BYTES_IN_MEMORY", 10)
    assert stored_because(recipe.data) is not None
    run.split_file.write_text(text.replace("1", "2"), encoding="utf-8")
    train(recipe, resume=run.folder, report=said.append)
    assert run.split_file.read_text(encoding="utf-8") == text
    assert [event.path for event in said if isinstance(event, FileChange)] == ["split.json"]
    assert not run.rows.exists()
    adapters = [each.adapters / "main" / "adapter_model.safetensors" for each in (expected, run)]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def _search(recipe: Recipe, **options: Any) -> Any:
    space = parse_space("r: [2, 4]", name="space.yaml", recipe=recipe)
    return search(make_request(recipe, space, num_trials=2, sampler="grid", halving=False), **options)


class TestEndingEarly:
    """By Ctrl-C, or by an error that nobody foresaw, while rows are read or encoded."""

    @pytest.fixture
    def two_files(self, recipe_of: Callable[[str], Recipe], tmp_path: Path) -> Recipe:
        (tmp_path / "more.json").write_text(json.dumps(ROWS[:6]), encoding="utf-8")
        recipe = recipe_of("disk")
        data = recipe.data.model_dump() | {"train": [str(tmp_path / n) for n in ("rows.json", "more.json")]}
        return recipe.revised({"data": data})

    @staticmethod
    def ending(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, error: Any) -> None:
        """Let a call of a function end by SIGINT, or by an error."""
        plain, calls = getattr(owner, name), []

        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            if len(calls) != at:
                return plain(*args, **options)
            if error is None:
                os.kill(os.getpid(), signal.SIGINT)
            raise error

        monkeypatch.setattr(owner, name, call)

    @pytest.mark.parametrize("verb", [train, _search])
    @pytest.mark.parametrize(
        ("error", "raised"), [(None, Interrupted), (MemoryError(), MemoryError)], ids=["Ctrl-C", "error"]
    )
    def test_a_reading_leaves_nothing_that_no_command_finds_again(
        self,
        verb: Callable[..., Any],
        error: Any,
        raised: Any,
        two_files: Recipe,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        self.ending(monkeypatch, row_files, "read_examples", 2, error)
        with pytest.raises(raised):
            verb(two_files)
        assert list((tmp_path / "runs").iterdir()) == []

    def test_a_reading_of_one_file_leaves_nothing_in_a_folder_that_was_named(
        self, recipe_of: Callable[[str], Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.ending(monkeypatch, row_files, "read_examples", 1, None)
        with pytest.raises(Interrupted):
            train(recipe_of("disk"), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_a_reading_goes_on_behind_the_files_that_were_read_into_a_folder_that_was_named(
        self, two_files: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notes, out = list[Event](), tmp_path / "run"
        with monkeypatch.context() as during:
            self.ending(during, row_files, "read_examples", 2, None)
            with pytest.raises(Interrupted):
                train(two_files, out=out, report=notes.append)
        said = f"the rows read so far are kept in {out / 'rows'}; to continue, start the same command again"
        assert Note(message=said) in notes
        again = AssertionError("the first file is read again")
        self.ending(monkeypatch, row_files, "read_examples", 2, again)
        train(two_files, out=out)

    def test_after_an_error_a_corrected_command_goes_on_with_the_rows_in_a_folder_that_was_named(
        self, two_files: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notes, out = list[Event](), tmp_path / "run"
        wrong = two_files.model_copy(update={"model_name_or_path": str(tmp_path / "no-base")})
        with pytest.raises(ModelError):
            train(wrong, out=out, report=notes.append)
        assert {path.name for path in out.iterdir()} == {".lock", "rows"}
        said = f"the rows read so far are kept in {out / 'rows'}; the corrected command reuses them"
        assert str(notes[-1].message).startswith(said)  # type: ignore[attr-defined]
        with monkeypatch.context() as during:
            self.ending(during, row_files, "read_examples", 1, AssertionError("a file is read again"))
            train(two_files, out=out)
        # Rows of files that have changed meanwhile are read again.
        shutil.rmtree(out)
        with pytest.raises(ModelError):
            train(wrong, out=out)
        (tmp_path / "rows.json").write_text(json.dumps(ROWS[:-2]), encoding="utf-8")
        run = train(two_files, out=out).run
        (part,) = run.rows.glob("*/part.json")
        assert json.loads(part.read_text())["writer"]["examples"] == len(ROWS) - 2 + 6

    def test_after_an_error_without_a_named_folder_nothing_is_left_and_that_is_said(
        self, two_files: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notes = list[Event]()
        monkeypatch.chdir(tmp_path)
        wrong = two_files.model_copy(update={"model_name_or_path": str(tmp_path / "no-base")})
        with pytest.raises(ModelError):
            train(wrong, report=notes.append)
        assert list((tmp_path / "runs").iterdir()) == []
        assert "rows are kept for reuse only if --out is given" in str(notes[-1].message)  # type: ignore[attr-defined]

    def test_an_encoding_of_a_range_test_ends_at_once_and_leaves_nothing(
        self, two_files: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        again = AssertionError("encoding went on")
        self.ending(monkeypatch, encoded_file, "_append", 1, None)
        self.ending(monkeypatch, find_lr, "make_plan", 1, again)
        with pytest.raises(Interrupted, match="run the same command to start again"):
            find_learning_rate(two_files)
        assert list((tmp_path / "runs").iterdir()) == []

    def test_an_encoding_leaves_a_run_that_is_resumed(
        self, two_files: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notes, expected = list[Event](), train(two_files, out=tmp_path / "expected").run
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as during:
            self.ending(during, encoded_file, "_append", 1, None)
            with pytest.raises(Interrupted):
                train(two_files, report=notes.append)
        (folder,) = Path("runs").iterdir()
        said = f"are kept in {folder / 'rows'}; to continue, run `loraloom train --resume {folder}`"
        assert said in "\n".join(str(note.message) for note in notes if isinstance(note, Note))
        run = train(two_files, resume=folder).run
        adapters = [each.adapters / "main" / "adapter_model.safetensors" for each in (expected, run)]
        assert adapters[0].read_bytes() == adapters[1].read_bytes()
