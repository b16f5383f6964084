"""Whether a run's files are still as the run wrote them.

Checkpoints have manifests of their own. What else decides how a run goes on (its recipe, split and
automatic choices), how it ended, and its finished adapters have their sha256 in .sums.json; the log has
its own in the line of every save. A bit that flipped, a hand that edited: neither changes a run unsaid.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loraloom.errors import RunError
from loraloom.run.atomic import replace_text
from loraloom.run.folder import Run, to_json

# How the line of a save ends.
SEAL = re.compile(rb', "log": "(.*)"\}\n$')


def write_recorded(run: Run, path: Path, text: str) -> None:
    """Replace one of a run's files as a whole, and seal it.

    Raises:
        RunError: it cannot be written, or .sums.json is damaged.
    """
    name, sums = path.name, _known(run)
    try:
        # The old sum stays beside the new one: whichever file a crash leaves is right.
        _write(run, {**sums, name: [*sums.get(name, [])[-1:], _sum(text.encode())]})
        replace_text(path, text)
    except OSError as error:
        raise RunError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            fix="Make room, then go on with --resume.",
        ) from None


def is_recorded(run: Run, path: Path, text: str) -> bool:
    """Whether this is what the run wrote there."""
    return _sum(text.encode()) in (_read(run) or {}).get(path.name, [])


def record(run: Run, paths: Iterable[Path]) -> None:
    """Seal files that are there already, as they are now.

    Raises:
        RunError: .sums.json is damaged.
    """
    own = {str(path.relative_to(run.folder)): [_sum(path.read_bytes())] for path in paths}
    sums = _known(run)
    if any(sums.get(name) != value for name, value in own.items()):
        _write(run, {**sums, **own})


def changed_files(run: Run, below: str = "") -> list[str]:
    """The sealed files that are not as the run wrote them, by their paths in the run.

    .sums.json is among them where it was changed itself; then nothing is known of the others. A run
    without it is older than seals, or lost it: that alone is no harm.

    Args:
        below: a folder of the run, `adapters/main/`, if only its files matter.
    """
    if not run.sums_file.is_file():
        return []
    sums = _read(run)
    if sums is None:
        return [run.sums_file.name]
    return [
        name
        for name, known in sums.items()
        if name.startswith(below) and _sum_of_file(run.folder / name) not in known
    ]


def log_problem(run: Run, step: int) -> str:
    """What is wrong with events.jsonl, or nothing.

    What stands behind the last save is repeated by a resume; up to there no bit changes unsaid.

    Args:
        run: with a checkpoint of `step`.
        step: of the run; the log knows of it.
    """
    content = run.events_file.read_bytes() if run.events_file.is_file() else b""
    so_far, has_step, unread = hashlib.sha256(run.started.encode()), step == 0, 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        event, sealed = _event(line), SEAL.search(line)
        is_right = _is_right(sealed, so_far) if sealed else event.get("event") != "save"
        if not is_right:
            return f"line {number}, or one before it, was changed"
        has_step = has_step or event.get("step") == step
        # One that a crash cut is sealed as it is by the next save.
        unread = 0 if sealed else unread or (0 if event else number)
        so_far.update(line)
    if unread:
        return f"line {unread} cannot be read"
    return "" if has_step else f"lines up to step {step} are lost"


def _is_right(sealed: re.Match[bytes], before: hashlib._Hash) -> bool:
    own = before.copy()
    own.update(sealed.string[: sealed.start()] + b"}")
    return own.hexdigest().encode() == sealed[1]


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _known(run: Run) -> dict[str, list[str]]:
    """The sums so far, to add to.

    Raises:
        RunError: the file is damaged. To begin it anew would call every change so far the run's own; a
            resume says what happened and keeps the damaged file aside.
    """
    sums = _read(run)
    if sums is None and run.sums_file.is_file():
        raise RunError(
            "is damaged: it is not as the run wrote it",
            where=str(run.sums_file),
            fix="Go on with --resume: it keeps this file aside and says what it cannot verify any more.",
        )
    return sums or {}


def _read(run: Run) -> dict[str, list[str]] | None:
    """The sums; None where there are none that can be trusted."""
    try:
        values = json.loads(run.sums_file.read_bytes())
        files: dict[str, list[str]] = values["files"]
        is_whole = values["sha256"] == _sum(json.dumps(files, sort_keys=True).encode())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return files if is_whole else None


def _write(run: Run, files: dict[str, list[str]]) -> None:
    own = _sum(json.dumps(files, sort_keys=True).encode())
    replace_text(run.sums_file, to_json({"files": files, "sha256": own}))


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sum_of_file(path: Path) -> str:
    try:
        return _sum(path.read_bytes())
    except OSError:
        return ""
