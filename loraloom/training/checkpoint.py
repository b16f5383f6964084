"""Checkpoints that survive a power cut, and detection of damaged ones.

    checkpoints/step-000160/
      state.json                     step of the run (`tick`) and progress of every experiment
      slots/<name>/current.safetensors, optimizer.safetensors, best.safetensors
      MANIFEST.json                  sha256 and size of every file above, see run/digests.py

A checkpoint is written to a temporary folder, flushed to disk, and then renamed, so that it exists
completely or not at all. Each checkpoint contains the best adapter of every experiment, so that none of these
adapters is lost when old checkpoints are removed. No file is a pickle.

Measured on transformers 5.23 (which writes in place, without fsync): after 33 of 60 kills, training could not
be resumed. `tests/faults/` kills LoRALoom in the same way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from loraloom.errors import CheckpointError
from loraloom.run.atomic import fsync_folder, write_bytes
from loraloom.run.digests import Manifest
from loraloom.run.documents.document import to_json, to_stored_json
from loraloom.run.documents.result import RetainLoss
from loraloom.text.message import Message, from_data
from loraloom.training.state import Limits, Progress, SlotTensors, TrainingState

MANIFEST, STATE, SLOTS = "MANIFEST.json", "state.json", "slots"
FORMAT = 1
NAME = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class CheckpointInspection:
    """Result of the inspection of one checkpoint.

    Args:
        folder: the checkpoint.
        problem: what is wrong with it; empty if nothing is.
    """

    folder: Path
    problem: str = ""


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int) -> Path:
    """Write a checkpoint, then remove all but the newest `keep`; return its folder.

    Args:
        folder: the run's `checkpoints`.
        state: state between two steps.
        keep: number of checkpoints to keep, at least 1.

    Raises:
        CheckpointError: the checkpoint could not be written, for example because the disk is full; older ones
            are unchanged.
    """
    return store_checkpoint(folder, state.tick, dict(state_files(state)), keep=keep)


def store_checkpoint(folder: Path, tick: int, contents: dict[str, bytes], *, keep: int) -> Path:
    """Write a checkpoint as `save_checkpoint` does, from files that `state_files` has yielded."""
    target = folder / f"step-{tick:06d}"
    staged = folder / f".{target.name}.new"
    if not _has(target, contents):
        _write(staged, target, contents)
    _remove_others(target, keep)
    return target


def _has(target: Path, contents: dict[str, bytes]) -> bool:
    """Return whether the checkpoint already has these contents; replacing it would briefly remove it."""
    try:
        return verify(target) == contents
    except CheckpointError:
        return False


def _write(staged: Path, target: Path, contents: dict[str, bytes]) -> None:
    try:
        _discard(staged)
        for path, content in contents.items():
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(staged / path, content)
        write_bytes(staged / MANIFEST, to_json(Manifest.of(contents).to_json()).encode())
        for inner in [*staged.glob(f"{SLOTS}/*"), *staged.glob(SLOTS), staged]:
            fsync_folder(inner)
        # After a resume from an older checkpoint, the one of this step may exist already.
        _discard(target)
        os.rename(staged, target)
        fsync_folder(target.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            _discard(staged)
        raise CheckpointError(
            Message("the checkpoint could not be written: {strerror}", strerror=(error.strerror or error)),
            where=str(target),
            fix=Message(
                "Free space on the disk, then continue with --resume; older checkpoints are unchanged."
            ),
        ) from None


def _remove_others(target: Path, keep: int) -> None:
    """Remove checkpoints of later steps, which a resumed run has abandoned, and all but the newest `keep`."""
    found = _newest_first(target.parent)
    for old in [*found[: found.index(target)], *found[found.index(target) + keep :]]:
        with contextlib.suppress(OSError):  # the save has succeeded; the next one tries again
            _discard(old)


def newest_valid(folder: Path) -> tuple[TrainingState | None, list[CheckpointInspection]]:
    """Read the newest intact checkpoint.

    Args:
        folder: the run's `checkpoints`.

    Returns:
        The state, or None if no checkpoint is intact, and the result of inspecting each of them.
    """
    state, verdicts = None, []
    for path in _newest_first(folder):
        try:
            contents = verify(path)
            state = state or read_state(contents, path)
            verdicts.append(CheckpointInspection(path))
        except CheckpointError as error:
            verdicts.append(CheckpointInspection(path, error.problems[0].what))
    return state, verdicts


def verify(path: Path) -> dict[str, bytes]:
    """Return the content of each file of a checkpoint, by path, after checking it against the manifest.

    Raises:
        CheckpointError: the manifest or a file is missing, unreadable or changed, or there is an extra file.
    """
    where = str(path)
    try:
        manifest = Manifest.parse((path / MANIFEST).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            Message("its manifest cannot be read ({name})", name=type(error).__name__), where=where
        ) from None
    if manifest is None:
        raise CheckpointError(Message("its manifest was changed"), where=where)
    expected = manifest.files
    present = {str(file.relative_to(path)) for file in path.rglob("*") if not file.is_dir()} - {MANIFEST}
    if present != expected.keys():
        name = min(present ^ expected.keys())
        raise CheckpointError(
            (
                Message("{name} is not in the manifest", name=name)
                if name in present
                else Message("{name} is missing", name=name)
            ),
            where=where,
        )
    contents = {}
    for name, entry in expected.items():
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                Message("{name} cannot be read: {strerror}", name=name, strerror=error.strerror), where=where
            ) from None
        if not entry.matches(content):
            raise CheckpointError(
                Message("{name} was changed: its sha256 differs from the manifest's", name=name), where=where
            )
        contents[name] = content
    return contents


def state_files(state: TrainingState) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file of a checkpoint, except its manifest."""
    progress = {name: dataclasses.asdict(value) for name, value in state.progress.items()}
    standing = {
        "format": FORMAT,
        "tick": state.tick,
        "progress": progress,
        "limits": _limits(state.limits),
        "unfinished": state.unfinished,
    }
    yield STATE, to_stored_json(standing).encode()
    for name, tensors in state.tensors.items():
        for kind in ("current", "optimizer", "best"):
            if values := getattr(tensors, kind):
                cpu = {key: value.detach().to("cpu").contiguous() for key, value in values.items()}
                yield f"{SLOTS}/{name}/{kind}.safetensors", save(cpu)


def with_limits(contents: Mapping[str, bytes], limits: Mapping[int, Limits]) -> dict[str, bytes]:
    """Return a checkpoint's files with its memory limits replaced, without reading its tensors."""
    standing = json.loads(contents[STATE]) | {"limits": _limits(limits)}
    return {**contents, STATE: to_stored_json(standing).encode()}


def _limits(limits: Mapping[int, Limits]) -> list[dict[str, int | None]]:
    return [{"step": step, **dataclasses.asdict(own)} for step, own in limits.items()]


def _retain_pairs(values: Mapping[str, Any]) -> dict[str, RetainLoss]:
    return {pair: RetainLoss(**own) for pair, own in values.items()}


def tick_of(contents: Mapping[str, bytes]) -> int:
    """Return the step of the run at which a checkpoint was written; its tensors are not read."""
    return int(json.loads(contents[STATE])["tick"])


def read_state(contents: Mapping[str, bytes], path: Path) -> TrainingState:
    """Read a state from the files of a checkpoint.

    Raises:
        CheckpointError: the files are damaged; `path` is in the message.
    """
    try:
        values = json.loads(contents[STATE])
        progress = {name: Progress(**fields) for name, fields in values["progress"].items()}
        for each in progress.values():
            each.reason = from_data(each.reason)
            each.retain_pairs = _retain_pairs(each.retain_pairs)
        tensors = {
            name: SlotTensors(
                **{kind: _tensors(contents, name, kind) for kind in ("current", "optimizer", "best")}
            )
            for name in progress
        }
        limits = {each.pop("step"): Limits(**each) for each in values.get("limits", [])}
        return TrainingState(values["tick"], progress, tensors, limits, values.get("unfinished", []))
    except (KeyError, TypeError, ValueError, SafetensorError, RecursionError) as error:
        raise CheckpointError(
            Message("its contents cannot be read ({error})", error=error), where=str(path)
        ) from None


def _tensors(contents: Mapping[str, bytes], name: str, kind: str) -> dict[str, Tensor]:
    content = contents.get(f"{SLOTS}/{name}/{kind}.safetensors")
    return {} if content is None else load(content)


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")), reverse=True)


def _discard(path: Path) -> None:
    """Rename a folder, then remove it, so that a partly removed one is never mistaken for a checkpoint."""
    if path.exists():
        doomed = path.with_name(f".{path.name.strip('.')}.old")
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(path, doomed)
        fsync_folder(path.parent)  # or a power cut could restore the name without the content
        shutil.rmtree(doomed, ignore_errors=True)
