"""What fails for a moment is read again; what stays as it is, is said at once or soon."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from loraloom.errors import RunError
from loraloom.run import patience
from loraloom.run.documents.document import read_json
from loraloom.run.patience import patiently


def failing(monkeypatch: pytest.MonkeyPatch, error: OSError, times: int) -> list[Path]:
    """Let the first readings of bytes fail; return the paths that are asked for."""
    asked: list[Path] = []
    read_bytes = Path.read_bytes

    def reading(path: Path) -> bytes:
        asked.append(path)
        if len(asked) <= times:
            raise error
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    return asked


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_document_whose_file_system_stalls_for_a_moment_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "split.json").write_text('{"eval": "é"}', encoding="utf-8")
    asked = failing(monkeypatch, OSError(number, "for a moment"), times=2)
    assert read_json(tmp_path / "split.json") == {"eval": "é"}
    assert len(asked) == 3


def test_a_document_that_stays_unreadable_is_said_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "SECONDS_FOR_A_FILE", 0.2)
    asked = failing(monkeypatch, OSError(errno.ESTALE, "Stale file handle"), times=1000)
    with pytest.raises(RunError, match=r"cannot be read.*Stale file handle"):
        read_json(tmp_path / "split.json")
    assert 2 <= len(asked) < 20


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EISDIR])
def test_what_will_not_pass_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    asked = failing(monkeypatch, OSError(number, "for good"), times=1000)
    with pytest.raises(RunError):
        read_json(tmp_path / "split.json")
    assert len(asked) == 1


def test_the_time_counts_from_the_first_error() -> None:
    """A reading may take longer than what it is repeated for."""
    asked = []

    def slow() -> str:
        asked.append(time.sleep(0.1))
        if len(asked) == 1:
            raise RunError("torn")
        return "whole"

    assert patiently(slow, errors=(RunError,), seconds=0.05) == "whole"
