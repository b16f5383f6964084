"""Verification that a run's files are unchanged, which detects corruption and manual edits.

Each checkpoint has a manifest of its own. The other files that determine how a run continues (its recipe,
split and automatic choices), its result, and its finished adapters are listed in .sums.json. In the log,
the line of each saved checkpoint ends with the digest of the log up to it. run/digests.py describes all these
formats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from loraloom.errors import RunError
from loraloom.run.atomic import replace_text
from loraloom.run.digests import FileDigest, LogDigest, Manifest
from loraloom.run.folder import Run, to_json
from loraloom.text.message import Message


def write_recorded(run: Run, path: Path, text: str) -> None:
    """Replace one of a run's files atomically, and record its digest in .sums.json.

    Raises:
        RunError: the file cannot be written, or .sums.json is damaged.
    """
    name, files = path.name, _known(run)
    try:
        # The old sum is kept with the new one, so that either content is valid after a crash.
        before = files[name].sha256 if name in files else None
        _write(run, {**files, name: FileDigest.of(text.encode(), before)})
        replace_text(path, text)
    except OSError as error:
        raise RunError(
            Message("cannot be written: {strerror}", strerror=(error.strerror or error)),
            where=str(path),
            fix=Message("Free some space, then resume with --resume."),
        ) from None


def is_recorded(run: Run, path: Path, text: str) -> bool:
    """Return whether this text is what the run wrote to the file."""
    entry = (_read(run) or {}).get(path.name)
    return entry is not None and entry.matches(text.encode())


def record(run: Run, paths: Iterable[Path]) -> None:
    """Record the digests of files, which must exist, in .sums.json.

    Raises:
        RunError: .sums.json is damaged.
    """
    own = {str(path.relative_to(run.folder)): FileDigest.of(path.read_bytes()) for path in paths}
    files = _known(run)
    if any(files.get(name) != entry for name, entry in own.items()):
        _write(run, {**files, **own})


def changed_files(run: Run, below: str = "") -> list[str]:
    """List the recorded files that have changed since the run wrote them, by their paths in the run.

    If .sums.json itself was changed, the list contains only this file, because nothing is known about the
    others. A run without it was written before integrity checks existed, or lost it; that is not an error.

    Args:
        below: list only files in this folder of the run, such as `adapters/main/`; by default all.
    """
    if not run.sums_file.is_file():
        return []
    files = _read(run)
    if files is None:
        return [run.sums_file.name]
    return [
        name
        for name, entry in files.items()
        if name.startswith(below) and not _is_unchanged(run.folder / name, entry)
    ]


def log_problem(run: Run, step: int) -> str:
    """Describe what is wrong with events.jsonl; "" if nothing is.

    Any change before the line of the last saved checkpoint is detected; what follows that line is repeated
    when the run is resumed.

    Args:
        run: the run.
        step: step of the checkpoint to resume from, which the log must contain; 0 without a checkpoint.
    """
    content = run.events_file.read_bytes() if run.events_file.is_file() else b""
    digest, has_step, unread = LogDigest(run.started), step == 0, 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        event, is_closed = _event(line), digest.is_closed(line)
        is_right = digest.verifies(line) if is_closed else event.get("event") != "save"
        if not is_right:
            return Message("line {number}, or one before it, was changed", number=number)
        has_step = has_step or event.get("step") == step
        # A line that was truncated by a crash is included in the digest of the next save.
        unread = 0 if is_closed else unread or (0 if event else number)
        digest.add(line)
    if unread:
        return Message("line {unread} cannot be read", unread=unread)
    return "" if has_step else Message("lines up to step {step} are lost", step=step)


def _event(line: bytes) -> Mapping[str, object]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _known(run: Run) -> Mapping[str, FileDigest]:
    """Return the digests recorded so far, by file.

    Raises:
        RunError: .sums.json is damaged. If it were created anew, earlier changes would go undetected; a
            resume reports the damage and keeps a copy of the file.
    """
    files = _read(run)
    if files is None and run.sums_file.is_file():
        raise RunError(
            Message("is damaged: it has changed since the run wrote it"),
            where=str(run.sums_file),
            fix=Message(
                "Resume with --resume, which keeps a copy of this file and reports what it cannot verify."
            ),
        )
    return files or {}


def _read(run: Run) -> Mapping[str, FileDigest] | None:
    """Return the recorded digests by file; None if .sums.json is missing or invalid."""
    try:
        manifest = Manifest.parse(run.sums_file.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return None if manifest is None else manifest.files


def _write(run: Run, files: Mapping[str, FileDigest]) -> None:
    replace_text(run.sums_file, to_json(Manifest(files).to_json()))


def _is_unchanged(path: Path, entry: FileDigest) -> bool:
    try:
        return entry.matches(path.read_bytes())
    except OSError:
        return False
