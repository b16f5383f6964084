"""One form of digests for files, folders, lines and logs; that of 0.1 is still read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from loraloom.run.digests import FileDigest, LogDigest, Manifest, is_intact, line_with_digest
from loraloom.run.folder import Run, create_run
from loraloom.run.integrity import changed_files, is_recorded, record, write_recorded
from loraloom.training.checkpoint import MANIFEST, verify

OLD = Path(__file__).parents[1] / "old_runs" / "v0.1"
OLDER, OLD_TEXT, NEW_TEXT = "seed: 0\n", "seed: 1\n", "seed: 2\n"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def run_of_0_1(tmp_path: Path) -> Run:
    """With sums as 0.1 wrote them: the one before beside the newest."""
    run = create_run(tmp_path / "run")
    run.recipe_file.write_text(OLD_TEXT)
    files = {"recipe.yaml": [sha256(OLDER), sha256(OLD_TEXT)]}
    own = sha256(json.dumps(files, sort_keys=True))
    run.sums_file.write_text(json.dumps({"files": files, "sha256": own}))
    return run


def test_sums_of_0_1_are_read(run_of_0_1: Run) -> None:
    run = run_of_0_1
    for text in (OLDER, OLD_TEXT):
        run.recipe_file.write_text(text)
        assert changed_files(run) == []
        assert is_recorded(run, run.recipe_file, text)
    run.recipe_file.write_text(NEW_TEXT)
    assert changed_files(run) == ["recipe.yaml"]


def test_sums_of_0_1_become_a_manifest_with_the_next_write(run_of_0_1: Run) -> None:
    run = run_of_0_1
    write_recorded(run, run.recipe_file, NEW_TEXT)
    values = json.loads(run.sums_file.read_bytes())
    entry = {"bytes": len(NEW_TEXT), "sha256": sha256(NEW_TEXT), "before": sha256(OLD_TEXT)}
    assert values["files"] == {"recipe.yaml": entry}
    record(run, [run.recipe_file])  # now it is there, and the content before is no longer right
    run.recipe_file.write_text(OLD_TEXT)
    assert changed_files(run) == ["recipe.yaml"]


def test_a_run_and_a_checkpoint_have_manifests_of_one_form(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run")
    write_recorded(run, run.recipe_file, NEW_TEXT)
    (checkpoint, *_) = sorted(OLD.glob("finished/checkpoints/*"))
    assert verify(checkpoint)  # one of 0.1
    for file in (run.sums_file, checkpoint / MANIFEST):
        manifest = Manifest.parse(file.read_bytes())
        assert manifest is not None
        assert manifest.to_json() == json.loads(file.read_bytes())
        assert all(entry.num_bytes is not None for entry in manifest.files.values())


@pytest.mark.parametrize("change", [{"format": 2}, {"sha256": "0" * 64}, {"files": {}}], ids=str)
def test_a_manifest_that_was_changed_is_none(change: dict[str, object]) -> None:
    values = Manifest.of({"a": b"1"}).to_json()
    assert Manifest.parse(json.dumps(values).encode()) == Manifest({"a": FileDigest.of(b"1")})
    assert Manifest.parse(json.dumps(values | change).encode()) is None


def test_any_change_of_a_line_is_noticed() -> None:
    line = line_with_digest({"rows": ["a"], "answers": {"base": ["好"]}})
    assert is_intact(json.loads(line))
    for changes in ({"rows": ["b"]}, {"more": 1}, {"sha256": ""}):
        assert not is_intact(json.loads(line) | changes)


def test_the_line_of_a_save_vouches_for_all_before_it() -> None:
    lines = ['{"event": "train"}', '{"event": "save"}']
    written, read = LogDigest("2026"), LogDigest("2026")
    written.add(f"{lines[0]}\n".encode())
    closed = written.closed(lines[1])
    assert not read.is_closed(f"{lines[0]}\n".encode())
    read.add(f"{lines[0]}\n".encode())
    assert read.verifies(f"{closed}\n".encode())
    assert not LogDigest("2026").verifies(f"{closed}\n".encode())
    assert json.loads(closed).keys() == {"event", "log"}
