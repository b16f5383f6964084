"""Every file of a run × every damage: found or harmless, never silent; what goes on ends with right bytes.

The command line is put through a few in the suite and through all of them by `make faults`. Random flips of
single bits, 100 of each file, are put to the very functions that a resume asks.
"""

from __future__ import annotations

import functools
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load, save

from loraloom.errors import LoRALoomError
from loraloom.run.folder import Run
from loraloom.run.integrity import changed_files, log_problem
from loraloom.training.checkpoint import newest_valid
from tests.faults.reference import STEP, Reference, is_long
from tests.faults.training import fruits

MEANING = "found and said, or without effect; what is resumed ends with the same bytes"
# Without them a run is what it is: the lock's content is a courtesy, and sums only say that all is well.
HARMLESS = (".lock", ".sums.json")
NUM_FLIPS = 100 if is_long() else 5


class Damaged(NamedTuple):
    """A file's new content, None where it is gone, or nothing to do for this kind of file."""

    content: bytes | None
    applies: bool = True


NOTHING = Damaged(None, applies=False)


def drop_key(path: Path, content: bytes, foreign: Path) -> Damaged:
    if path.suffix == ".safetensors":
        tensors = load(content)
        tensors.pop(min(tensors))
        return Damaged(save(tensors))
    if path.suffix == ".json":
        values = json.loads(content)
        values.pop(len(values) // 2 if isinstance(values, list) else sorted(values)[len(values) // 2])
        return Damaged(json.dumps(values).encode())
    lines = content.splitlines(keepends=True)
    return Damaged(b"".join(lines[:3] + lines[4:])) if len(lines) > 4 else NOTHING


def put_nan(path: Path, content: bytes, foreign: Path) -> Damaged:
    if path.suffix == ".safetensors":
        tensors = load(content)
        tensors[max(tensors)].view(-1)[0] = torch.nan
        return Damaged(save(tensors))
    spoilt = re.sub(rb"([:\s])\d+(\.\d+)?(e-?\d+)?(?=[\s,}])", rb"\1NaN", content, count=1)
    return Damaged(spoilt) if spoilt != content else NOTHING


def swap(path: Path, content: bytes, foreign: Path) -> Damaged:
    other = foreign.read_bytes() if foreign.is_file() else content
    return Damaged(other) if other != content else NOTHING


def flip(path: Path, content: bytes, foreign: Path) -> Damaged:
    if not content:
        return NOTHING
    return Damaged(flipped(content, random.Random(str(path.name))))


def flipped(content: bytes, draw: random.Random) -> bytes:
    position, bit = draw.randrange(len(content)), draw.randrange(8)
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


DAMAGES: dict[str, Callable[[Path, bytes, Path], Damaged]] = {
    "deleted": lambda path, content, foreign: Damaged(None),
    "truncated": lambda path, content, foreign: Damaged(content[: len(content) // 2]),
    "emptied": lambda path, content, foreign: Damaged(b""),
    "a bit flipped": flip,
    "a key dropped": drop_key,
    "a NaN put in": put_nan,
    "swapped with another run's": swap,
}


Runs = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(
    reference: Callable[[str], Reference],
    interrupted: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """A run that was killed with two checkpoints, a finished one, and others like them with other rates."""
    expected, folder = reference("in waves"), tmp_path_factory.mktemp("runs")
    own = {"interrupted": interrupted("in waves"), "finished": expected.folder}
    killed = {"call": STEP, "number": 9}

    @functools.cache
    def made(name: str) -> Path:
        if name in own:
            return own[name]
        run = folder / name
        faults = {**expected.faults, **(killed if name.endswith("interrupted") else {})}
        train = ("train", expected.recipe, "--set", "training.learning_rate=2e-2", "--out", run)
        expected.warm.call(*train, cwd=folder, faults=faults)
        return run

    return made


def files_of(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())


def other(runs: Runs, kind: str, name: str) -> Path:
    """The same file of another run, or the one that comes nearest."""
    own = runs(f"other {kind}") / name
    if own.is_file() or not name.startswith("checkpoints/"):
        return own
    _, _, *rest = Path(name).parts
    found = sorted(runs(f"other {kind}").glob(f"checkpoints/*/{'/'.join(rest)}"))
    return found[-1] if found else own


KINDS = ("interrupted", "finished")
# A few in the suite: the other damages are what `test_damage.py` inflicts.
TRIED = [
    (damage, kind)
    for damage in DAMAGES
    for kind in KINDS
    if is_long()
    or ((damage in ("a key dropped", "a NaN put in", "swapped with another run's")) and kind == KINDS[0])
]


@pytest.mark.parametrize(("damage", "kind"), TRIED)
def test_it_is_found_or_harmless_and_what_goes_on_ends_with_the_right_bytes(
    damage: str,
    kind: str,
    reference: Callable[[str], Reference],
    runs: Runs,
    tmp_path: Path,
    trying: Callable[..., None],
) -> None:
    files = files_of(runs(kind))
    if not is_long():
        files = random.Random(damage).sample(files, 1)
    todo = []
    for name in files:
        content = (runs(kind) / name).read_bytes()
        damaged = DAMAGES[damage](Path(name), content, other(runs, kind, name))
        if damaged.applies and damaged.content != content:
            todo.append((name, damaged.content))
    trying(f"a file: {damage}", len(todo), MEANING)
    for number, (name, content) in enumerate(todo):
        run = Path(shutil.copytree(runs(kind), tmp_path / str(number) / "run"))
        if content is None:
            (run / name).unlink()
        else:
            (run / name).write_bytes(content)
        assert_comes_out_right(reference("in waves"), run, name, (runs(kind) / name).read_bytes())
        shutil.rmtree(run)


def assert_comes_out_right(expected: Reference, run: Path, name: str, original: bytes) -> None:
    """Found and mended, found and refused, or harmless; with the file put back a refused run goes on."""
    ended = expected.resume(run)
    assert "Traceback" not in ended.stderr, name
    if ended.code == 1:
        assert is_said(name, ended.stderr), (name, ended.stderr)
        (run / name).write_bytes(original)
        ended = expected.resume(run)
    elif name not in HARMLESS:
        assert is_said(name, ended.stderr), (name, ended.stderr)
    assert ended.code == 0, (name, ended.stderr)
    if name == "events.jsonl":  # it was said that lines of it are not what they were
        assert fruits(run).adapters == expected.fruits.adapters
        assert fruits(run).ends == expected.fruits.ends
    else:
        expected.assert_same(run)


def is_said(name: str, stderr: str) -> bool:
    path = Path(name)
    if name.startswith("checkpoints/"):
        return f"checkpoint {path.parts[1]} is not used" in stderr
    if name.startswith("adapters/"):
        return (
            f"{name} has changed since the run wrote it" in stderr
            or f"{path.parent} is written again" in stderr
        )
    # Where the sums are another run's, they say so of every file.
    return name in stderr or (name == ".sums.json" and "changed since the run wrote it" in stderr)


@pytest.mark.parametrize("kind", KINDS)
def test_single_bits_that_flip_are_found_in_every_file(
    kind: str, runs: Runs, tmp_path: Path, trying: Callable[..., None]
) -> None:
    run = Run(Path(shutil.copytree(runs(kind), tmp_path / "run")))
    names = [name for name in files_of(run.folder) if name != ".lock"]
    trying("a random bit of a file flipped", NUM_FLIPS * len(names), "found by what a resume asks")
    assert not is_noticed(run, "")
    for name in names:
        path = run.folder / name
        original = path.read_bytes()
        # What stands behind the last save is taken again by a resume.
        end = original.rindex(b'"log": ') + 70 if name == "events.jsonl" else len(original)
        for number in range(NUM_FLIPS):
            path.write_bytes(flipped(original[:end], random.Random(f"{name} {number}")) + original[end:])
            assert is_noticed(run, name), (name, number)
        path.write_bytes(original)


def is_noticed(run: Run, name: str) -> bool:
    """Whether what a resume looks at shows that a file is damaged."""
    if name.startswith("checkpoints/") or not name:
        state, verdicts = newest_valid(run.checkpoints)
        if any(verdict.problem for verdict in verdicts):
            return True
        assert state is not None
    if changed_files(run):
        return True
    try:
        tick = max(int(path.name.removeprefix("step-")) for path in run.checkpoints.glob("step-*"))
        return bool(log_problem(run, tick))
    except LoRALoomError:
        return True
