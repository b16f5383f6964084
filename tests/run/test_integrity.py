"""A run's files are as the run wrote them, or it is said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run.digests import LogDigest
from loraloom.run.events import CheckpointSave, Resume
from loraloom.run.folder import Run, create_run, to_json
from loraloom.run.integrity import changed_files, is_recorded, log_problem, record, write_recorded
from tests.events import train_step


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = create_run(tmp_path / "run")
    write_recorded(run, run.provenance_file, to_json({"started": "2026-01-01T00:00:00+00:00"}))
    write_recorded(run, run.recipe_file, "seed: 1\n")
    return run


def test_what_is_put_is_as_it_was(run: Run) -> None:
    write_recorded(run, run.recipe_file, "seed: 2\n")
    assert changed_files(run) == []
    run.recipe_file.write_text("seed: 3\n")
    assert changed_files(run) == ["recipe.yaml"]
    run.recipe_file.unlink()
    assert changed_files(run) == ["recipe.yaml"]


def test_a_crash_between_the_sums_and_the_file_is_no_change(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two files it leaves: the one of before, or the new one."""
    before = run.recipe_file.read_text()
    write_recorded(run, run.recipe_file, "seed: 2\n")
    run.recipe_file.write_text(before)
    assert changed_files(run) == []


def test_a_run_without_sums_is_not_accused(run: Run) -> None:
    run.sums_file.unlink()
    run.recipe_file.write_text("seed: 3\n")
    assert changed_files(run) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": {}, "sha256": "0"}', b"\xff"])
def test_sums_that_were_changed_say_so_and_are_never_begun_anew_by_a_write(run: Run, content: bytes) -> None:
    """Else whatever was changed before would be the run's own from then on."""
    run.sums_file.write_bytes(content)
    assert changed_files(run) == [".sums.json"]
    with pytest.raises(RunError, match=r"\.sums\.json: is damaged.*--resume"):
        record(run, [run.recipe_file])
    with pytest.raises(RunError, match=r"\.sums\.json: is damaged.*--resume"):
        write_recorded(run, run.recipe_file, "seed: 4\n")
    assert run.sums_file.read_bytes() == content
    assert run.recipe_file.read_text() == "seed: 1\n"


def test_it_knows_the_very_text_and_no_other(run: Run) -> None:
    run.recipe_file.write_text("seed: 3\n")
    assert is_recorded(run, run.recipe_file, "seed: 1\n")
    assert not is_recorded(run, run.recipe_file, "seed: 3\n")
    assert not is_recorded(run, run.split_file, "seed: 1\n")


def test_folders_are_sealed_file_by_file(run: Run) -> None:
    own = run.adapters / "main" / "README.md"
    own.parent.mkdir()
    own.write_text("# main\n")
    record(run, [own])
    own.write_text("# Main\n")
    assert changed_files(run) == ["adapters/main/README.md"]


def write_log(run: Run) -> list[bytes]:
    for step in (1, 2):
        run.append_event(train_step(step))
        run.append_event(CheckpointSave(step=step, path=f"step-{step:06d}"))
    run.append_event(train_step(3, loss=2.25))
    return run.events_file.read_bytes().splitlines(keepends=True)


def test_a_whole_log_has_no_problem(run: Run) -> None:
    write_log(run)
    assert log_problem(run, 2) == ""
    assert [event.to_json()["step"] for event in run.events()] == [1, 1, 2, 2, 3]


@pytest.mark.parametrize("number", range(4))
def test_any_bit_up_to_the_last_save_is_missed(run: Run, number: int) -> None:
    lines = write_log(run)
    for position in range(len(lines[number]) - 1):
        for bit in (1, 32, 128):
            line = bytearray(lines[number])
            line[position] ^= bit
            run.events_file.write_bytes(b"".join([*lines[:number], bytes(line), *lines[number + 1 :]]))
            assert log_problem(run, 2), bytes(line)


def test_each_byte_of_a_log_is_hashed_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    add = LogDigest.add
    monkeypatch.setattr(
        LogDigest, "add", lambda self, content: (hashed.append(len(content)), add(self, content))
    )
    for step in range(50):
        run.append_event(train_step(step))
        run.append_event(CheckpointSave(step=step, path=f"step-{step:06d}"))
    last_save = run.events_file.read_bytes().splitlines(keepends=True)[-1]
    assert sum(hashed) == run.events_file.stat().st_size - len(last_save)
    monkeypatch.undo()
    assert log_problem(run, 49) == ""


def test_a_change_between_two_saves_is_missed_by_the_second(run: Run) -> None:
    first, second, _ = write_log(run)[:3]
    run.events_file.write_bytes(first.replace(b'"step": 1', b'"step": 7') + second)
    run.append_event(train_step(2))
    run.append_event(CheckpointSave(step=2, path="step-000002"))
    assert "was changed" in log_problem(run, 2)


def test_a_log_that_was_shortened_is_hashed_from_its_start(run: Run) -> None:
    lines = write_log(run)
    run.events_file.write_bytes(b"".join(lines[:2]))
    run.append_event(CheckpointSave(step=1, path="step-000001"))
    assert log_problem(run, 1) == ""


def test_lines_that_are_gone_are_missed(run: Run) -> None:
    lines = write_log(run)
    for kept in ([], lines[:2], lines[1:], lines[2:], [lines[0], *lines[2:]]):
        run.events_file.write_bytes(b"".join(kept))
        assert log_problem(run, 2)
    run.events_file.unlink()
    assert log_problem(run, 2) == "lines up to step 2 are lost"
    assert log_problem(run, 0) == ""


def test_the_log_of_another_run_is_not_taken_for_its_own(run: Run, tmp_path: Path) -> None:
    write_log(run)
    other = create_run(tmp_path / "other")
    write_recorded(other, other.provenance_file, to_json({"started": "2026-01-02T00:00:00+00:00"}))
    other.events_file.write_bytes(run.events_file.read_bytes())
    assert "was changed" in log_problem(other, 2)


def test_a_line_that_a_crash_cut_takes_no_other_along(run: Run) -> None:
    run.append_event(train_step(1))
    with run.events_file.open("ab") as file:
        file.write(b'{"event": "tra')
    assert log_problem(run, 1) == "line 2 cannot be read"
    run.append_event(Resume(step=1, reason=""))
    run.append_event(CheckpointSave(step=1, path="step-000001"))
    assert [event.kind for event in run.events()] == ["train", "resume", "save"]
    assert log_problem(run, 1) == ""  # sealed as it is: it is known what it was


def test_what_cannot_be_written_is_an_error_of_ours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"recipe\.yaml: cannot be written: No space left on device"):
        write_recorded(run, run.recipe_file, "seed: 9\n")
    with pytest.raises(RunError, match=r"events\.jsonl: cannot be written: No space left on device"):
        run.append_event(CheckpointSave(step=1, path="step-000001"))


def test_a_lock_waits_for_one_that_only_asks(run: Run) -> None:
    """Another process holds it for a moment, as one does that asks whose the run is."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with run.locked():
            os.write(writer, b"held")
            signal.sigtimedwait([], 0.08)
        os._exit(0)
    os.read(reader, 4)
    with run.locked():
        assert (run.folder / ".lock").read_text() == f"{os.getpid()}\n"
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)


def test_a_lock_of_a_folder_that_was_removed_is_none(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder had removed the run while this process waited for it."""
    (run.folder / ".lock").write_text("1\n")
    real, opened = os.open, []

    def removed(path: object, *args: object, **kwargs: object) -> int:
        descriptor = real(path, *args, **kwargs)  # type: ignore[arg-type]
        opened.append(path)
        if len(opened) == 2:  # first it is looked at, then locked
            (run.folder / ".lock").unlink()
        return descriptor

    monkeypatch.setattr(os, "open", removed)
    with pytest.raises(RunError, match="just been removed"), run.locked():
        pass
