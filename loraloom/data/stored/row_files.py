"""Reading of data files into files of examples, one data file at a time, so that reading can be resumed.

rows/train/   the files of `example_file.py`, and `part.json`: what was read, updated after every data file
rows/eval/    likewise, if data.eval names files; rows/test/ for data.test
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loraloom.data.examples import read_examples
from loraloom.data.files.data_file import DataFile
from loraloom.data.files.location import DataLocation
from loraloom.data.files.part_files import PartContents
from loraloom.data.formats.parquet import HUB_PREFIX
from loraloom.data.formats.row import DroppedRow, check_file, file_sha256
from loraloom.data.repeated_notes import merge_notes
from loraloom.data.splitting.part_sizes import Part
from loraloom.data.stored.column_file import ColumnWriter, mapped, sha256_of
from loraloom.data.stored.example_file import KEY, NAMES, RECORD, ExampleFile, StoredExamples
from loraloom.data.stored.example_writer import ExampleWriter, are_written
from loraloom.data.stored.group_arrays import group_examples
from loraloom.data.stored.storage import Progress
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.run.atomic import fsync_folder, replace_text
from loraloom.run.digests import digest_of_json
from loraloom.run.documents.document import to_stored_json
from loraloom.run.scratch import ScratchFolder
from loraloom.text.message import Message, from_data

FORMAT = 1
PART_FILE = "part.json"
# Settings that do not change which examples a file has.
_OF_LATER_STEPS = {
    "eval",
    "test",
    "retain",
    "split_seed",
    "keep_rows",
    "max_source_length",
    "max_target_length",
    "source_truncation",
    "language_temperature",
}


@dataclass
class _ReadFiles:
    """The progress of reading the data files of a part, as recorded in part.json.

    Args:
        settings: a digest of the settings that reading depends on.
        sha256, notes, dropped: sha256, notes and dropped rows of each file, by its name.
        writer: the last result of `ExampleWriter.flush`.
        sums: sha256 of the files of examples, once everything is read.
    """

    settings: str
    sha256: dict[str, str]
    notes: dict[str, list[str]]
    dropped: dict[str, list[DroppedRow]]
    writer: dict[str, Any]
    sums: dict[str, str]

    def text(self) -> str:
        """Return the text of part.json."""
        dropped = {
            name: [[row.number, row.where, row.why] for row in rows] for name, rows in self.dropped.items()
        }
        return to_stored_json({"format": FORMAT, **vars(self), "dropped": dropped})

    @classmethod
    def read(cls, path: Path, settings: str) -> _ReadFiles:
        """Read part.json; return an empty state if it is missing, damaged, or written with other settings."""
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            if saved["format"] == FORMAT and saved["settings"] == settings:
                notes = {name: list(map(from_data, own)) for name, own in saved["notes"].items()}
                dropped = {
                    name: [DroppedRow(number, where, from_data(why)) for number, where, why in rows]
                    for name, rows in saved["dropped"].items()
                }
                return cls(settings, saved["sha256"], notes, dropped, saved["writer"], saved["sums"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass
        return cls(settings, {}, {}, {}, {}, {})


def read_stored_parts(
    located: Mapping[Part, DataLocation],
    settings: DataSettings,
    folder: Path | None,
    progress: Progress,
    known: Mapping[str, str] | None = None,
    *,
    is_own: bool = True,
) -> dict[Part, PartContents]:
    """Read every part into files, or open the files of an earlier reading.

    Args:
        located: the files of each part.
        settings: as in `read_examples`.
        folder: receives a folder for each part; by default a temporary one, removed when the rows are no
            longer used.
        progress: called with sentences about the progress of reading.
        known: sha256 of each data file, as recorded in split.json; by default computed from the files.
        is_own: whether this process may write to the folder; if not, and the folder lacks the rows, a
            temporary folder is used.

    Raises:
        DataError: data files are invalid (the error lists all problems of all files), or the rows cannot be
            written.
    """
    if folder is not None and (is_own or _are_complete(located, settings, folder, known)):
        root, keep = folder, None
    else:
        keep, is_own = ScratchFolder(), True
        root = keep.path
    read: dict[Part, PartContents] = {}
    problems: list[Problem] = []
    for part, own in located.items():
        try:
            state = _part_state(own.files, settings, root / part, known)
            if not state.sums:
                _read_files(own.files, settings, root / part, state, progress)
            read[part] = _contents(root / part, state, is_own, keep)
        except DataError as error:
            problems += error.problems
        except OSError as error:
            raise DataError(
                Message("the rows cannot be written: {reason}", reason=error.strerror or error),
                where=str(root),
                fix=Message("Free some space there, or choose another folder with --out."),
            ) from None
    if problems:
        raise DataError(problems)
    return read


def has_read_files(folder: Path) -> bool:
    """Return whether a folder has the rows of at least one whole data file, so that reading can continue."""
    for path in folder.glob(f"*/{PART_FILE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            if json.loads(path.read_text(encoding="utf-8"))["sha256"]:
                return True
    return False


def _are_complete(
    located: Mapping[Part, DataLocation],
    settings: DataSettings,
    folder: Path,
    known: Mapping[str, str] | None,
) -> bool:
    return all(_part_state(own.files, settings, folder / part, known).sums for part, own in located.items())


def _part_state(
    files: Sequence[DataFile], settings: DataSettings, folder: Path, known: Mapping[str, str] | None
) -> _ReadFiles:
    """Return how far files have been read into a folder; `sums` is set if all were read and are intact."""
    state = _ReadFiles.read(folder / PART_FILE, reading_digest(settings))
    is_usable = _is_intact(folder, state) if state.sums else are_written(folder, state.writer)
    if not (is_usable and _begins_with(files, state, known)):
        return _ReadFiles(state.settings, {}, {}, {}, {}, {})
    if len(state.sha256) < len(files):
        state.sums = {}  # files were added to those that were read
    return state


def _contents(folder: Path, state: _ReadFiles, is_own: bool, keep: object) -> PartContents:
    identity = digest_of_json(state.sums)
    examples = ExampleFile(folder, state.writer, identity=identity, is_own=is_own, keep=keep)
    dropped = {name: rows for name, rows in state.dropped.items() if rows}
    notes = merge_notes([(name, own) for name, own in state.notes.items()])
    return PartContents(StoredExamples(examples), dict(state.sha256), dropped, notes)


def _begins_with(files: Sequence[DataFile], state: _ReadFiles, known: Mapping[str, str] | None) -> bool:
    """Return whether the list of files begins with the files that were read before, unchanged."""
    if list(state.sha256) != [file.name for file in files][: len(state.sha256)]:
        return False
    for file in files[: len(state.sha256)]:
        if known is not None:
            now = known.get(file.name)
        elif file.name.startswith(HUB_PREFIX):
            return False  # a hub dataset has no file whose content could be compared
        else:
            check_file(file.path, file.name)
            now = file_sha256(file.path)
        if now != state.sha256[file.name]:
            return False
    return True


def _read_files(
    files: Sequence[DataFile],
    settings: DataSettings,
    folder: Path,
    state: _ReadFiles,
    progress: Progress,
) -> None:
    """Read the files that have not been read yet, and compute the groups of all rows."""
    folder.mkdir(parents=True, exist_ok=True)
    state.sums = {}
    replace_text(folder / PART_FILE, state.text())  # before anything that it describes is changed
    writer = ExampleWriter(folder, state.writer, progress)
    problems: list[Problem] = []
    try:
        for file in files[len(state.sha256) :]:
            try:
                read = read_examples(file.path, settings, shown_as=file.name, groups=writer, sink=writer)
            except DataError as error:
                problems += error.problems
                continue
            if problems:
                continue
            state.writer = writer.flush()
            state.sha256[file.name] = read.sha256
            state.notes[file.name], state.dropped[file.name] = read.notes, read.bad
            replace_text(folder / PART_FILE, state.text())
    finally:
        writer.close()
    if problems:
        raise DataError(problems)
    _write_groups(folder, state.writer)
    state.sums = {name: sha256_of(mapped(folder / name, np.uint8)) for name in NAMES}
    fsync_folder(folder)
    replace_text(folder / PART_FILE, state.text())


def _write_groups(folder: Path, names: dict[str, Any]) -> None:
    records, keys = mapped(folder / NAMES[1], RECORD), mapped(folder / NAMES[2], KEY)
    rows = np.ascontiguousarray(records["entry"])
    groups = group_examples(keys, rows, _ranks(records, names["files"]))
    for name, values in ((NAMES[3], groups.first), (NAMES[4], groups.shared)):
        column = ColumnWriter(folder / name)
        column.append(values)
        column.flush()
        column.close()


def _ranks(records: npt.NDArray[Any], files: Sequence[str]) -> npt.NDArray[np.uint32]:
    """Return the place of each row if the rows were sorted by file name, then row number."""
    is_first = np.diff(records["entry"], prepend=np.uint32(0xFFFFFFFF)) != 0
    of_rows = np.ascontiguousarray(records["file"][is_first])
    by_name = np.argsort(np.argsort(np.array(files)))  # as Python compares them: by code points
    order = np.argsort(by_name[of_rows], kind="stable")
    ranks = np.empty(len(order), np.uint32)
    ranks[order] = np.arange(len(order), dtype=np.uint32)
    return ranks


def reading_digest(settings: DataSettings) -> str:
    """Return a digest of the settings that determine which examples are read from a file."""
    return digest_of_json(settings.model_dump(mode="json", exclude=_OF_LATER_STEPS))


def _is_intact(folder: Path, state: _ReadFiles) -> bool:
    try:
        return all(sha256_of(mapped(folder / name, np.uint8)) == sum for name, sum in state.sums.items())
    except OSError:
        return False
