"""Rows in files are those of rows in memory: the split, the notes, the leaks that are refused, the tokens."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from loraloom.checks.data.data_view import DataView
from loraloom.checks.data.duplicates import check_duplicates, check_leakage
from loraloom.data.splitting.split import Split, split_examples, stored_because
from loraloom.data.stored import row_files, storage
from loraloom.data.stored.example_file import StoredExamples
from loraloom.errors import DataError
from loraloom.recipe import DataSettings


def _conversations(number: int, prefix: str, seed: int) -> list[dict[str, Any]]:
    """Some of one turn, some of several; some turns many have, some few."""
    draw, rows = random.Random(seed), []
    for row in range(number):
        turns = []
        for turn in range(draw.choice([1, 1, 2, 4])):
            asked = "hello" if draw.random() < 0.3 else f"{prefix}{draw.randrange(60)}"
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": f"a{row}.{turn}"}]
        rows.append({"messages": turns})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files: `z` and `a` with shared turns, and `own` with some rows of `z`."""
    folder = tmp_path_factory.mktemp("conversations")
    own = [*_conversations(20, "own", 3), *_conversations(2, "q", 1)]
    for name, rows in (("z", _conversations(80, "q", 1)), ("a", _conversations(60, "q", 2)), ("own", own)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _seen(split: Split) -> tuple[object, ...]:
    notes = [note for note in split.notes if "kept in files" not in note]
    return list(split.train), list(split.eval), list(split.test), split.files, notes, split.dropped


@pytest.mark.parametrize("train", [["z.jsonl", "a.jsonl"], "z.jsonl"])
@pytest.mark.parametrize("held_out", [0.1, 30, "own.jsonl"])
@pytest.mark.parametrize("history", [False, True])
def test_a_split_of_rows_in_files_is_that_of_rows_in_memory(
    folder: Path, train: Any, held_out: Any, history: bool
) -> None:
    options = {"train": train, "eval": held_out, "test": 5, "conversation_history": history}
    settings = DataSettings(**options).in_folder(folder)
    stored = settings.model_copy(update={"keep_rows": "disk"})
    ends: list[object] = []
    for each in (settings, stored):
        try:
            ends.append(_seen(split_examples(each)))
        except DataError as error:  # rows of `own` are in `z` too
            ends.append([problem.as_message() for problem in error.problems])
    assert ends[0] == ends[1]
    split = split_examples(stored, allow_leakage=True)
    assert _seen(split)[:3] == _seen(split_examples(settings, allow_leakage=True))[:3]
    assert _seen(Split.restore(split.record(), stored))[:4] == _seen(split)[:4]


def test_ranges_of_more_rows_than_are_read_are_refused(folder: Path) -> None:
    settings = DataSettings(train="z.jsonl", eval=5, keep_rows="disk").in_folder(folder)
    saved = split_examples(settings).record()
    saved = saved.model_copy(update={"ranges": {**saved.ranges, "train": "1-100000"}})
    with pytest.raises(DataError, match="a setting of `data` differs from the run's"):
        Split.restore(saved, settings)


def test_leaks_and_equal_rows_are_found_among_all_rows_by_their_hashes(tmp_path: Path) -> None:
    draw = random.Random(0)
    rows = [
        {"instruction": f"q{draw.randrange(40)}", "response": f"{'a' * 30}{draw.randrange(3)}"}
        for _ in range(90)
    ]
    for name, own in (("train", rows[:60]), ("eval", rows[60:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    found = []
    for keep in ("memory", "disk"):
        settings = DataSettings(train="train.jsonl", eval="eval.jsonl", keep_rows=keep).in_folder(tmp_path)
        view = DataView(split_examples(settings, allow_leakage=True), settings)
        view = view.of_sample() if keep == "disk" else view
        found.append(
            [
                (each.level, each.check, each.message)
                for each in (*check_leakage(view), *check_duplicates(view))
            ]
        )
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_answers_in_languages_with_similar_names_are_no_repeats(tmp_path: Path) -> None:
    rows = [
        {"instruction": "q", "response": name, "lang": name}
        for name in ("Norwegian Bokm\u00e5l", "Norwegian Nynorsk")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for keep in ("memory", "disk"):
        settings = DataSettings(train="rows.jsonl", eval=0, target_lang_column="lang", keep_rows=keep)
        settings = settings.in_folder(tmp_path)
        view = DataView(split_examples(settings), settings)
        (found,) = check_duplicates(view.of_sample() if keep == "disk" else view)
        assert found.level == "ok", (keep, found)


class TestReading:
    def settings(self, folder: Path) -> DataSettings:
        for name in ("a", "b"):
            rows = [{"instruction": f"{name}{row}", "response": "r"} for row in range(30)]
            (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return DataSettings(train=["a.jsonl", "b.jsonl"], eval=5, keep_rows="disk").in_folder(folder)

    @pytest.fixture
    def files_read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of the files that were read."""
        seen: list[str] = []
        plain = row_files.read_examples

        def watched(*args: Any, shown_as: str, **options: Any) -> Any:
            seen.append(shown_as)
            return plain(*args, shown_as=shown_as, **options)

        monkeypatch.setattr(row_files, "read_examples", watched)
        return seen

    def test_it_is_used_again_as_long_as_data_and_files_are_unchanged(
        self, tmp_path: Path, files_read: list[str]
    ) -> None:
        settings, rows = self.settings(tmp_path), tmp_path / "rows"
        first = _seen(split_examples(settings, folder=rows))
        assert _seen(split_examples(settings, folder=rows)) == first
        assert files_read == ["a.jsonl", "b.jsonl"]
        texts = rows / "train" / "texts.bin"
        texts.write_bytes(texts.read_bytes()[:-1] + b"x")  # a damaged disk
        assert _seen(split_examples(settings, folder=rows)) == first
        (tmp_path / "b.jsonl").write_text('{"instruction": "new", "response": "r"}\n')
        assert len(split_examples(settings, folder=rows).train) == 26
        assert files_read[4:] == ["a.jsonl", "b.jsonl"]

    def test_it_is_not_used_again_with_more_files_if_it_is_damaged(self, tmp_path: Path) -> None:
        folder, rows = tmp_path / "data", tmp_path / "rows"
        folder.mkdir()
        settings = DataSettings(train="data/", eval=0, keep_rows="disk").in_folder(tmp_path)
        (folder / "a.jsonl").write_text('{"instruction": "a", "response": "r"}\n')
        split_examples(settings, folder=rows)
        texts = rows / "train" / "texts.bin"
        texts.write_bytes(b"x" + texts.read_bytes()[1:])
        (folder / "b.jsonl").write_text('{"instruction": "b", "response": "r"}\n')
        assert _seen(split_examples(settings, folder=rows)) == _seen(split_examples(settings))

    def test_it_goes_on_behind_the_files_that_were_read_before_it_was_interrupted(
        self, tmp_path: Path, files_read: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings, rows = self.settings(tmp_path), tmp_path / "rows"
        plain, some = row_files.read_examples, list(split_examples(settings).train)[:3]

        def killed(path: Path, *args: Any, sink: Any, **options: Any) -> Any:
            if path.name == "b.jsonl":
                sink.extend(some)  # rows that were written and not counted
                raise KeyboardInterrupt
            return plain(path, *args, sink=sink, **options)

        with monkeypatch.context() as during:
            during.setattr(row_files, "read_examples", killed)
            with pytest.raises(KeyboardInterrupt):
                split_examples(settings, folder=rows)
        files_read.clear()
        split = split_examples(settings, folder=rows)
        assert files_read == ["b.jsonl"]
        assert _seen(split) == _seen(split_examples(settings))

    def test_another_process_writes_nothing_beside_rows_that_are_not_its_own(self, tmp_path: Path) -> None:
        settings, rows = self.settings(tmp_path), tmp_path / "rows"
        split_examples(settings, folder=rows, is_own=False)
        assert not rows.exists()
        split_examples(settings, folder=rows)
        seen = split_examples(settings, folder=rows, is_own=False).train
        assert isinstance(seen, StoredExamples)
        assert seen.file.folder == rows / "train"


def test_files_are_chosen_for_data_that_is_larger_than_a_stated_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DataSettings(train="z.jsonl").in_folder(folder)
    assert stored_because(settings) is None
    monkeypatch.setattr(storage, "MOST_BYTES_IN_MEMORY", 1_000)
    assert "more than 1000 bytes" in str(stored_because(settings))
    assert stored_because(settings.model_copy(update={"keep_rows": "memory"})) is None
