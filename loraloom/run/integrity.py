"""Whether a run's files are still as the run wrote them: detects corruption and manual edits.

Each checkpoint has a manifest of its own. What else decides how a run goes on (its recipe, split and
automatic choices), how it ended, and its finished adapters are listed in .sums.json; the log has the digest
of all before it in the line of every save. All are of one form, see run/digests.py.
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
    """Replace one of a run's files as a whole, and record it.

    Raises:
        RunError: it cannot be written, or .sums.json is damaged.
    """
    name, files = path.name, _known(run)
    try:
        # The old sum stays beside the new one: whichever file a crash leaves is right.
        before = files[name].sha256 if name in files else None
        _write(run, {**files, name: FileDigest.of(text.encode(), before)})
        replace_text(path, text)
    except OSError as error:
        raise RunError(
            Message("cannot be written: {strerror}", strerror=(error.strerror or error)),
            where=str(path),
            fix=Message("Make room, then go on with --resume."),
        ) from None


def is_recorded(run: Run, path: Path, text: str) -> bool:
    """Whether this is what the run wrote there."""
    entry = (_read(run) or {}).get(path.name)
    return entry is not None and entry.matches(text.encode())


def record(run: Run, paths: Iterable[Path]) -> None:
    """Record files that are there already, as they are now.

    Raises:
        RunError: .sums.json is damaged.
    """
    own = {str(path.relative_to(run.folder)): FileDigest.of(path.read_bytes()) for path in paths}
    files = _known(run)
    if any(files.get(name) != entry for name, entry in own.items()):
        _write(run, {**files, **own})


def changed_files(run: Run, below: str = "") -> list[str]:
    """The recorded files that are not as the run wrote them, by their paths in the run.

    .sums.json is among them if it was changed itself; then nothing is known of the others. A run without
    it is older than integrity checks, or lost it: that alone is no harm.

    Args:
        below: a folder of the run, `adapters/main/`, if only its files matter.
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
    """What is wrong with events.jsonl, or nothing.

    What stands behind the last save is repeated by a resume; up to there no bit changes unsaid.

    Args:
        run: with a checkpoint of `step`.
        step: of the run; the log knows of it.
    """
    content = run.events_file.read_bytes() if run.events_file.is_file() else b""
    digest, has_step, unread = LogDigest(run.started), step == 0, 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        event, is_closed = _event(line), digest.is_closed(line)
        is_right = digest.verifies(line) if is_closed else event.get("event") != "save"
        if not is_right:
            return Message("line {number}, or one before it, was changed", number=number)
        has_step = has_step or event.get("step") == step
        # One that a crash cut is recorded as it is by the next save.
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
    """The files so far, to add to.

    Raises:
        RunError: .sums.json is damaged. To begin it anew would call every change so far the run's own; a
            resume says what happened and keeps the damaged file aside.
    """
    files = _read(run)
    if files is None and run.sums_file.is_file():
        raise RunError(
            Message("is damaged: it is not as the run wrote it"),
            where=str(run.sums_file),
            fix=Message(
                "Go on with --resume: it keeps this file aside and says what it cannot verify any more."
            ),
        )
    return files or {}


def _read(run: Run) -> Mapping[str, FileDigest] | None:
    """The files that are recorded; None if there are none that can be trusted."""
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
