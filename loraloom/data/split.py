"""Train, eval and test: which examples are whose, with no source on two sides.

data.train ──▶ examples ──groups, shuffled by split_seed──▶ train
data.eval, data.test: a share or count of those, or a file of their own
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loraloom.data.examples import Example, read_examples
from loraloom.data.formats.row import check_file, file_sha256
from loraloom.data.formats.tables import HUB_PREFIX
from loraloom.data.leaks import refuse_leaks, without_shared_turns
from loraloom.data.parts import HELD_OUT, PARTS, HeldOut, Part, divide, rows_wanted
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings

__all__ = [
    "HELD_OUT",
    "PARTS",
    "STARTER",
    "HeldOut",
    "Part",
    "Split",
    "locate",
    "split_examples",
]

STARTER = "starter"


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
    are met as nearly as that allows. A turn that many conversations share ties nothing: what has it
    as its source is trained on and never held out. The same files and `split_seed` give the same
    split on every machine.

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
    notes = [note for examples in read.values() for note in examples.notes]
    if len(parts) > 1 and not allow_leakage:
        parts, left_out = without_shared_turns(parts)
        notes += left_out
        refuse_leaks(parts)
    train_name = next(iter(files))
    wanted = rows_wanted(settings, parts["train"], train_name)
    parts |= divide(parts["train"], wanted, settings, train_name)
    if wanted and (num_shared := sum(example.is_shared for example in parts["train"])):
        notes.append(
            f"{train_name}: the sources of {num_shared:,} rows are turns that many conversations share: "
            f"these rows are trained on, and stay out of {' and '.join(wanted)}"
        )
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
