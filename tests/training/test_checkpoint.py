"""Checkpoints: whole or not at all, and no damage goes unnoticed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.errors import CheckpointError
from loraloom.run.atomic import remove_remnants
from loraloom.run.digests import Manifest
from loraloom.run.documents.result import RetainLoss
from loraloom.training import checkpoint
from loraloom.training.checkpoint import newest_valid, save_checkpoint, verify
from loraloom.training.state import Progress, SlotTensors, TrainingState


def state_at(tick: int) -> TrainingState:
    """Three experiments: one trains, one has ended, one waits."""
    generator = torch.Generator().manual_seed(tick)

    def tensors(*names: str) -> dict[str, torch.Tensor]:
        return {name: torch.randn(3, 2, generator=generator) for name in names}

    return TrainingState(
        tick,
        {
            "main": Progress(
                "training", tick, best_step=2, best_metric=0.1 + tick, evaluations_without_improvement=1
            ),
            "ended": Progress(
                "stopped",
                3,
                reason="eval_loss has not improved in 2 evaluations",
                best_step=1,
                retain_pairs={"deu_Latn-eng_Latn": RetainLoss(2.5, 0.5)},
            ),
            "later": Progress(),
        },
        {
            "main": SlotTensors(
                tensors("q.lora_A", "q.lora_B"),
                {"q.lora_A.exp_avg": torch.ones(3, 2), "q.lora_A.step": torch.tensor(float(tick))},
                tensors("q.lora_A", "q.lora_B"),
            ),
            "ended": SlotTensors(best=tensors("v.lora_A")),
            "later": SlotTensors(),
        },
    )


def assert_same_state(actual: TrainingState | None, expected: TrainingState) -> None:
    assert actual is not None
    assert (actual.tick, actual.progress) == (expected.tick, expected.progress)
    for name, slot in expected.tensors.items():
        for kind in ("current", "optimizer", "best"):
            own, wanted = getattr(actual.tensors[name], kind), getattr(slot, kind)
            assert own.keys() == wanted.keys()
            assert all(torch.equal(tensor, wanted[key]) for key, tensor in own.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three checkpoints, of the ticks 5, 10 and 15."""
    for tick in (5, 10, 15):
        save_checkpoint(tmp_path / "checkpoints", state_at(tick), keep=3)
    return tmp_path / "checkpoints"


def test_what_was_saved_is_read_bit_for_bit(folder: Path) -> None:
    state, verdicts = newest_valid(folder)
    assert_same_state(state, state_at(15))
    assert [(v.folder.name, v.problem) for v in verdicts] == [
        ("step-000015", ""),
        ("step-000010", ""),
        ("step-000005", ""),
    ]


def test_nothing_is_a_pickle_and_the_manifest_lists_everything(folder: Path) -> None:
    newest = folder / "step-000015"
    files = {str(f.relative_to(newest)) for f in newest.rglob("*") if f.is_file()}
    assert {Path(name).suffix for name in files} == {".json", ".safetensors"}
    listed = json.loads((newest / "MANIFEST.json").read_bytes())["files"]
    assert files == {*listed, "MANIFEST.json"}
    assert len(files) == 6


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "absent") == (None, [])
    (tmp_path / "step-12").mkdir()  # not a name of ours
    (tmp_path / ".step-000012.new").mkdir()
    assert newest_valid(tmp_path) == (None, [])


BEST = "slots/main/best.safetensors"


def flip_bit(path: Path, position: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_bytes())
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a missing tensor file": (lambda f: (f / BEST).unlink(), f"{BEST} is missing"),
    "a missing folder": (lambda f: shutil.rmtree(f / "slots"), "is missing"),
    "a missing state": (lambda f: (f / "state.json").unlink(), "state.json is missing"),
    "a missing manifest": (lambda f: (f / "MANIFEST.json").unlink(), "its manifest cannot be read"),
    "a surplus file": (lambda f: (f / "slots" / "x.bin").write_bytes(b"x"), "x.bin is not in the manifest"),
    "a surplus link": (lambda f: (f / "link").symlink_to("/etc/hostname"), "link is not in the manifest"),
    "a flipped bit in the weights": (lambda f: flip_bit(f / BEST), f"{BEST} was changed"),
    "a flipped bit in a header": (lambda f: flip_bit(f / BEST, 12), f"{BEST} was changed"),
    "a flipped bit in the optimizer": (
        lambda f: flip_bit(f / "slots/main/optimizer.safetensors"),
        "was changed",
    ),
    "a flipped bit in the state": (lambda f: flip_bit(f / "state.json", 20), "state.json was changed"),
    "a cut file": (lambda f: (f / BEST).write_bytes((f / BEST).read_bytes()[:-1]), f"{BEST} was changed"),
    "an empty file": (lambda f: (f / BEST).write_bytes(b""), f"{BEST} was changed"),
    "a longer file": (
        lambda f: (f / BEST).write_bytes((f / BEST).read_bytes() + b"\0"),
        f"{BEST} was changed",
    ),
    "an empty manifest": (lambda f: (f / "MANIFEST.json").write_bytes(b""), "its manifest cannot be read"),
    "a manifest that is a list": (lambda f: (f / "MANIFEST.json").write_text("[]"), "cannot be read"),
    "a manifest that is not text": (lambda f: (f / "MANIFEST.json").write_bytes(b"\xff"), "cannot be read"),
    "a manifest with a file struck out": (
        lambda f: edit(f / "MANIFEST.json", lambda m: m["files"].pop(BEST)),
        "its manifest was changed",
    ),
    "a manifest with another hash": (
        lambda f: edit(f / "MANIFEST.json", lambda m: m["files"][BEST].update(sha256="0" * 64)),
        "its manifest was changed",
    ),
    "a manifest of another format": (
        lambda f: edit(f / "MANIFEST.json", lambda m: m.update(format=2)),
        "its manifest was changed",
    ),
    "a manifest without a size": (
        lambda f: edit(f / "MANIFEST.json", lambda m: m["files"][BEST].pop("bytes")),
        "its manifest",
    ),
    "a file that is a folder": (lambda f: ((f / BEST).unlink(), (f / BEST).mkdir()), f"{BEST} is missing"),
    "no file at all": (lambda f: [shutil.rmtree(f), f.mkdir()], "its manifest cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_found_and_the_next_older_one_is_taken(folder: Path, damage: str) -> None:
    spoil, message = DAMAGES[damage]
    spoil(folder / "step-000015")
    with pytest.raises(CheckpointError, match=message):
        verify(folder / "step-000015")
    state, verdicts = newest_valid(folder)
    assert_same_state(state, state_at(10))
    assert message in verdicts[0].problem
    assert [v.problem for v in verdicts[1:]] == ["", ""]


def test_a_flip_of_any_byte_of_any_file_is_found(folder: Path) -> None:
    newest = folder / "step-000015"
    for path in sorted(newest.rglob("*.*")):
        content = path.read_bytes()
        for position in range(0, len(content), 23):
            flip_bit(path, position)
            with pytest.raises(CheckpointError):
                verify(newest)
        path.write_bytes(content)
    verify(newest)


def test_a_file_moved_to_another_experiment_is_found(folder: Path) -> None:
    newest = folder / "step-000015"
    first, second = newest / "slots/main/best.safetensors", newest / "slots/ended/best.safetensors"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert "was changed" in newest_valid(folder)[1][0].problem


def test_contents_that_a_whole_manifest_vouches_for_are_still_read_with_care(folder: Path) -> None:
    """A manifest is no signature: with one made to fit, contents that make no state are still said."""
    newest = folder / "step-000015"
    contents = verify(newest)
    for damage in (
        {"state.json": b"{}"},
        {"state.json": b'{"tick": 1, "progress": {"main": {"unknown": 1}}}'},
        {BEST: b"no safetensors"},
    ):
        spoilt = {**contents, **damage}
        for name, content in spoilt.items():
            (newest / name).write_bytes(content)
        (newest / "MANIFEST.json").write_text(json.dumps(Manifest.of(spoilt).to_json()), encoding="utf-8")
        state, verdicts = newest_valid(folder)
        assert_same_state(state, state_at(10))
        assert "its contents cannot be read" in verdicts[0].problem


def test_when_all_are_damaged_there_is_no_state_and_a_verdict_on_each(folder: Path) -> None:
    for path in folder.iterdir():
        flip_bit(path / "state.json")
    state, verdicts = newest_valid(folder)
    assert state is None
    assert all(verdict.problem for verdict in verdicts)
    assert len(verdicts) == 3


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_rotation_keeps_the_newest(tmp_path: Path, keep: int) -> None:
    for tick in range(1, 8):
        save_checkpoint(tmp_path, state_at(tick), keep=keep)
        expected = [f"step-{t:06d}" for t in range(max(1, tick - keep + 1), tick + 1)]
        assert sorted(path.name for path in tmp_path.iterdir()) == expected


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_later_checkpoint_does_not_displace_what_a_resume_writes(folder: Path, keep: int) -> None:
    """A resume from tick 5 writes tick 6 while the damaged 10 and 15 still lie there."""
    for tick in (10, 15):
        flip_bit(folder / f"step-{tick:06d}" / "state.json")
    written = save_checkpoint(folder, state_at(6), keep=keep)
    assert written.is_dir()
    state, verdicts = newest_valid(folder)
    assert_same_state(state, state_at(6))
    assert not any(verdict.problem for verdict in verdicts)
    assert len(verdicts) == keep


def test_saving_a_tick_again_replaces_it(folder: Path) -> None:
    other = state_at(15)
    other.progress["main"].best_metric = 7.0
    save_checkpoint(folder, other, keep=3)
    assert_same_state(newest_valid(folder)[0], other)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("nth", range(7))
def test_a_full_disk_leaves_the_older_ones_as_they_were(
    folder: Path, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its six files does not fit, or the rename fails."""
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    calls = []
    write, rename = checkpoint.write_bytes, os.rename

    def full(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == nth + 1:
            path.write_bytes(content[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    def refused(source: Any, target: Any) -> None:
        if nth == 6 and Path(target).name == "step-000020":
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(
        CheckpointError, match=r"(No space left|Input/output).*older checkpoints are unchanged"
    ):
        save_checkpoint(folder, state_at(20), keep=1)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert_same_state(newest_valid(folder)[0], state_at(15))
    save_checkpoint(folder, state_at(20), keep=1)
    assert_same_state(newest_valid(folder)[0], state_at(20))


def test_remnants_of_a_killed_save_are_no_checkpoints_and_can_be_swept(folder: Path) -> None:
    shutil.copytree(folder / "step-000015", folder / ".step-000020.new")
    shutil.copytree(folder / "step-000015", folder / ".step-000005.old")
    assert [v.folder.name for v in newest_valid(folder)[1]] == ["step-000015", "step-000010", "step-000005"]
    remove_remnants(folder)
    assert sorted(path.name for path in folder.iterdir()) == [f"step-{t:06d}" for t in (5, 10, 15)]


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsync of every file and folder, then rename, then fsync of the folder that holds the name."""
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watching_fsync(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def watching_rename(source: Any, target: Any) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watching_fsync)
    monkeypatch.setattr(os, "rename", watching_rename)
    path = save_checkpoint(tmp_path, state_at(1), keep=1)
    staged = str(tmp_path / ".step-000001.new")
    at = done.index("rename")
    needed = {staged + str(f).removeprefix(str(path)) for f in [path, *path.rglob("*")]}
    assert needed <= set(done[:at])
    assert done[at + 1] == str(tmp_path)
