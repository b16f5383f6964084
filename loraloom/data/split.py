"""Train, eval and test: which examples are whose, with no source on two sides.

data.train ──▶ examples ──groups, shuffled by split_seed──▶ train
data.eval, data.test: a share or count of those, or a file of their own
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from loraloom.data.examples import Example, read_examples
from loraloom.data.formats.row import check_file, file_sha256
from loraloom.data.formats.tables import HUB_PREFIX
from loraloom.data.groups import choose_parts, source_key
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

Part = Literal["train", "eval", "test"]
HeldOut = Literal["eval", "test"]

STARTER = "starter"
PARTS: tuple[Part, ...] = ("train", "eval", "test")
HELD_OUT: tuple[HeldOut, ...] = ("eval", "test")


@dataclass(frozen=True, slots=True)
class Split:
    """The examples of a run, in their three parts.

    Args:
        train, eval, test: in file order; `eval` and `test` may be empty.
        files: each file's name, as the user wrote it, and its sha256.
        notes: what was accepted and should be known.
    """

    train: list[Example]
    eval: list[Example]
    test: list[Example]
    files: dict[str, str]
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """What split.json holds: {"files": {path: sha256}, "train": [[path, row], …], …}.

        An answer of a conversation is [path, row, turn].
        """
        return {"files": dict(self.files)} | {
            part: [list(example.id) for example in getattr(self, part)] for part in PARTS
        }

    @classmethod
    def restore(
        cls, saved: Mapping[str, Any], settings: DataSettings, folder: Path, *, shown_as: str = "split.json"
    ) -> Split:
        """The split that `to_json` wrote, from the same files.

        Args:
            saved: what split.json holds.
            settings, folder: as in `split_examples`.
            shown_as: split.json's name, for messages.

        Raises:
            DataError: a file is not the one that was split, its rows are read differently now, or
                `saved` is not what `to_json` writes.
        """
        ids = _saved_ids(saved, shown_as)
        files = _files(settings, folder)
        _check_unchanged(saved["files"], files, shown_as)
        read = [read_examples(path, settings, shown_as=name) for name, path in files.items()]
        _check_hashes(saved["files"], dict(zip(files, (examples.sha256 for examples in read), strict=True)))
        by_id = {example.id: example for examples in read for example in examples.examples}
        lost = [
            Problem(f"row {row[1]} of {row[0]} is in it, but is not read as an example now", where=shown_as)
            for part in PARTS
            for row in ids[part]
            if row not in by_id
        ]
        if lost:
            raise DataError([*lost, Problem("a setting of `data` differs from the run's", where=shown_as)])
        parts = {part: [by_id[row] for row in ids[part]] for part in PARTS}
        notes = [note for examples in read for note in examples.notes]
        return cls(**parts, files=dict(saved["files"]), notes=notes)


def split_examples(settings: DataSettings, folder: Path, *, allow_leakage: bool = False) -> Split:
    """Read the files of a recipe's `data` and divide their examples.

    Examples with one source, and the turns of one conversation, stay together; shares and counts
    are met as nearly as that allows. The same files and `split_seed` give the same split on every
    machine.

    Args:
        settings: the recipe's `data`.
        folder: the recipe's folder, which paths are relative to.
        allow_leakage: let a source of an `eval` or `test` file be in another part too.

    Raises:
        DataError: a file is not usable, there are too few rows, or a source of an `eval` or `test`
            file is in another part too, and that is not allowed.
    """
    files = _files(settings, folder)
    read = {name: read_examples(path, settings, shown_as=name) for name, path in files.items()}
    parts: dict[Part, list[Example]] = {}
    for part in PARTS:
        name = _shown_as(part, getattr(settings, part))
        if name is not None:
            parts[part] = read[name].examples
    if len(parts) > 1 and not allow_leakage:
        _check_no_leak(parts)
    train_name = next(iter(files))
    notes = [note for examples in read.values() for note in examples.notes]
    wanted = _wanted(settings, len(parts["train"]), train_name)
    parts |= _divide(parts["train"], wanted, settings.split_seed, train_name)
    for part, number in wanted.items():
        if number != len(parts[part]):
            notes.append(
                f"{part} has {len(parts[part])} rows where {number} were asked: "
                "rows with one source, and turns of one conversation, stay together"
            )
    return Split(
        train=parts["train"],
        eval=parts.get("eval", []),
        test=parts.get("test", []),
        files={name: examples.sha256 for name, examples in read.items()},
        notes=notes,
    )


def locate(part: Part, name: str, folder: Path) -> Path:
    """Where a part's file is.

    Args:
        part: which part of the data it is.
        name: what the recipe says: a path, a hub dataset, or `starter`.
        folder: what paths are relative to.
    """
    if name == STARTER:
        from loraloom.starter import data_file

        return data_file(part)
    return Path(name) if name.startswith(HUB_PREFIX) else folder / Path(name).expanduser()


def _shown_as(part: Part, value: float | int | str) -> str | None:
    """A part's file as messages and split.json name it; None where it is a share or a count."""
    if not isinstance(value, str):
        return None
    return f"{STARTER}:{part}.json" if value == STARTER else value


def _files(settings: DataSettings, folder: Path) -> dict[str, Path]:
    """Each file the recipe names, once, and where it is.

    Raises:
        DataError: two parts name the same file.
    """
    files: dict[str, Path] = {}
    part_of: dict[Path, Part] = {}
    for part in PARTS:
        value = getattr(settings, part)
        name = _shown_as(part, value)
        if name is None:
            continue
        files[name] = locate(part, value, folder)
        same = part_of.setdefault(files[name].resolve(), part)
        if same != part:
            raise DataError(
                f"names the same file as data.{same}",
                where=f"data.{part}",
                found=name,
                fix=f"Give a share instead, such as `{part}: 0.1`: rows are then taken out of data.train.",
            )
    return files


def _wanted(settings: DataSettings, num_rows: int, train_name: str) -> dict[HeldOut, int]:
    """How many rows of the training file each held-out part asks for.

    Raises:
        DataError: there are too few.
    """
    wanted: dict[HeldOut, int] = {}
    for part in HELD_OUT:
        value = getattr(settings, part)
        if isinstance(value, str) or value == 0:
            continue
        if num_rows < 2:
            raise DataError(
                "holds 1 row; to split it, at least 2 are needed",
                where=train_name,
                fix=f"Add rows, or set `data.{part}: 0`.",
            )
        wanted[part] = value if isinstance(value, int) else max(1, round(value * num_rows))
        if wanted[part] >= num_rows:
            raise DataError(
                f"asks for {wanted[part]} rows, but {train_name} has {num_rows}: none is left to train on",
                where=f"data.{part}",
                allowed=f"a share below 1, or a count up to {num_rows - 1}",
            )
    if sum(wanted.values()) >= num_rows:
        asked = " and ".join(f"{number} rows for {part}" for part, number in wanted.items())
        raise DataError(
            f"{asked} leave none of the {num_rows} rows of {train_name} to train on",
            where="data.eval, data.test",
            fix="Ask for less.",
        )
    return wanted


def _divide(
    examples: Sequence[Example], wanted: Mapping[HeldOut, int], seed: int, train_name: str
) -> dict[Part, list[Example]]:
    """Take the held-out parts' rows out of the training file's, by whole groups."""
    sizes: dict[str, int] = {}
    for example in examples:
        sizes[example.group] = sizes.get(example.group, 0) + 1
    groups = list(sizes)
    random.Random(seed).shuffle(groups)
    part_of: dict[str, Part] = {}
    chosen = choose_parts([sizes[group] for group in groups], list(wanted.values()))
    for part, positions in zip(wanted, chosen, strict=True):
        if not positions:
            raise DataError(
                f"no rows can be taken out for data.{part}: rows with one source, and turns of one "
                f"conversation, stay together, and there are {len(groups)} such groups",
                where=train_name,
                fix=f"Add rows, or set `data.{part}: 0`.",
            )
        part_of |= {groups[position]: part for position in positions}
    divided: dict[Part, list[Example]] = {"train": [], **{part: [] for part in wanted}}
    for example in examples:
        divided[part_of.get(example.group, "train")].append(example)
    return divided


def _check_no_leak(parts: Mapping[Part, Sequence[Example]]) -> None:
    """Refuse a source that stands in two files, naming each pair of rows."""
    seen: dict[bytes, Example] = {}
    problems: list[Problem] = []
    for examples in parts.values():
        keys = [source_key(example.source) for example in examples]
        for key, example in zip(keys, examples, strict=True):
            other = seen.get(key)
            if other is not None:
                problems.append(
                    Problem(
                        f"row {example.row} has the same source as row {other.row} of {other.where}",
                        where=example.where,
                        fix="Take it out of one of the two, or accept it with --allow leakage.",
                    )
                )
        for key, example in zip(keys, examples, strict=True):
            seen.setdefault(key, example)
    if problems:
        raise DataError(problems)


def _saved_ids(saved: Mapping[str, Any], shown_as: str) -> dict[Part, list[tuple[Any, ...]]]:
    """The rows of each part.

    Raises:
        DataError: `saved` is not what `Split.to_json` writes.
    """
    files = saved.get("files")
    parts = [saved.get(part) for part in PARTS]
    rows = [row for part in parts if isinstance(part, list) for row in part]
    if (
        not isinstance(files, dict)
        or not all(isinstance(part, list) for part in parts)
        or not all(
            isinstance(row, list) and [type(x) for x in row] in ([str, int], [str, int, int]) for row in rows
        )
    ):
        raise DataError(
            "is damaged",
            where=shown_as,
            allowed='{"files": {path: sha256}, "train": [[path, row], …], "eval": […], "test": […]}',
        )
    return {part: [tuple(row) for row in saved[part]] for part in PARTS}


def _check_unchanged(saved: Mapping[str, str], files: Mapping[str, Path], shown_as: str) -> None:
    """Refuse other files than those that were split, before any is read as data."""
    if set(saved) != set(files):
        raise DataError(
            "is the split of other files",
            where=shown_as,
            found=", ".join(saved),
            allowed=f"the recipe's: {', '.join(files)}",
        )
    on_disk = {name: path for name, path in files.items() if not name.startswith(HUB_PREFIX)}
    for name, path in on_disk.items():
        check_file(path, name)
    _check_hashes(saved, {name: file_sha256(path) for name, path in on_disk.items()})


def _check_hashes(saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    changed = [
        Problem(
            f"has changed since it was split: its sha256 was {saved[name]} and is {sha256}",
            where=name,
            fix="Put the old file back, or start a new run.",
        )
        for name, sha256 in now.items()
        if sha256 != saved[name]
    ]
    if changed:
        raise DataError(changed)
