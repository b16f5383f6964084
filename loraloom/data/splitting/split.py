"""Splitting of the data into train, eval and test, so that no source text is in two parts.

data.train ──▶ examples ──groups, shuffled by split_seed──▶ train
data.eval, data.test: a share or number of these examples, or files of their own
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loraloom.data.example import Example, count_shared
from loraloom.data.files.changes import check_hashes, check_unchanged
from loraloom.data.files.data_names import STARTER, shown_data
from loraloom.data.files.location import DataLocation
from loraloom.data.files.part_files import PartContents, locate_parts, read_parts
from loraloom.data.formats.row import DroppedRow, shown_names
from loraloom.data.splitting.leakage import refuse_leaks, without_shared_turns
from loraloom.data.splitting.part_sizes import HELD_OUT, PARTS, HeldOut, Part, rows_wanted, split_rows
from loraloom.data.stored.storage import Progress, storage_reason
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.run.documents.document import JsonObject
from loraloom.run.documents.split import DroppedRowRecord, SplitRecord, read_ranges
from loraloom.text.message import Message, joined


def in_silence(message: str) -> None:
    """Discard a message."""


__all__ = [
    "HELD_OUT",
    "PARTS",
    "STARTER",
    "HeldOut",
    "Part",
    "Progress",
    "Split",
    "in_silence",
    "split_examples",
    "stored_because",
]


@dataclass(frozen=True, slots=True)
class Split:
    """The three parts of a run's examples.

    Args:
        train, eval, test: in file order; `eval` and `test` may be empty.
        files: name of each file, as written by the user -> its sha256.
        notes: notes for the user on how the data was read and split.
        dropped: by file name, the invalid rows that were dropped because of `data.on_invalid: drop`.
    """

    train: Sequence[Example]
    eval: Sequence[Example]
    test: Sequence[Example]
    files: dict[str, str]
    notes: list[str]
    dropped: dict[str, list[DroppedRow]] = field(default_factory=dict)

    @property
    def is_stored(self) -> bool:
        """Whether the rows are kept in files."""
        from loraloom.data.stored.example_file import StoredExamples

        return isinstance(self.train, StoredExamples)

    def record(self, *, as_ids: bool = False) -> SplitRecord:
        """Return the contents of split.json; with `as_ids`, stored rows are listed by id, not in ranges."""
        dropped: list[DroppedRowRecord] = [
            (name, row.number, row.where, row.why) for name, rows in self.dropped.items() for row in rows
        ]
        more: dict[str, Any] = {"dropped": dropped} if dropped else {}
        if self.is_stored and not as_ids:
            from loraloom.data.stored.example_file import ranges_of

            ranges = {part: ranges_of(rows) for part in PARTS if (rows := getattr(self, part))}
            return SplitRecord(files=dict(self.files), train=[], eval=[], test=[], ranges=ranges, **more)
        rows = {part: [example.id for example in getattr(self, part)] for part in PARTS}
        return SplitRecord(files=dict(self.files), **rows, **more)

    def to_json(self) -> JsonObject:
        """Convert `record` to JSON values: {"files": {path: sha256}, "train": [[path, row], …], …}.

        An answer in a conversation or article is listed as [path, row, turn]. If invalid rows were
        dropped, there is also {"dropped": [[path, row, where, why], …]}.
        """
        return self.record().to_json()

    @classmethod
    def restore(
        cls,
        saved: SplitRecord,
        settings: DataSettings,
        *,
        shown_as: str = "split.json",
        folder: Path | None = None,
        is_own: bool = False,
        progress: Progress = in_silence,
    ) -> Split:
        """Restore a split from its split.json and the data files that were split.

        Args:
            saved: contents of split.json.
            settings: as in `split_examples`.
            shown_as: name of split.json in messages.
            folder, is_own, progress: as in `split_examples`.

        Raises:
            DataError: a file has changed since the split, or its rows are now read differently.
        """
        located = locate_parts(settings, is_checked=False)
        new = check_unchanged(saved.files, located, settings.locations, shown_as)
        located = {
            part: replace(own, files=[file for file in own.files if file.name not in new])
            for part, own in located.items()
        }
        read = (
            _read_stored_parts(located, settings, folder, progress, saved.files, is_own=is_own)
            if saved.ranges
            else read_parts(located, settings)
        )
        check_hashes(saved.files, _sha256(read))
        parts = _in_ranges(saved, read, shown_as) if saved.ranges else _by_id(saved, read, shown_as)
        notes = _notes(located, read)
        if new:
            notes.append(
                Message(
                    "these files are not read, because they are not among the files that were split: {names}",
                    names=shown_names(sorted(new)),
                )
            )
        return cls(**parts, files=dict(saved.files), notes=notes, dropped=_dropped(read))


def stored_because(settings: DataSettings) -> Message | None:
    """Return why a recipe's rows will be kept in files; None if they will not, or the data is unusable."""
    try:
        return storage_reason(settings, locate_parts(settings))
    except DataError:
        return None  # `split_examples` reports why


def split_examples(
    settings: DataSettings,
    *,
    allow_leakage: bool = False,
    folder: Path | None = None,
    is_own: bool = True,
    progress: Progress = in_silence,
) -> Split:
    """Read the files of a recipe's `data` and split their examples.

    Examples with the same source stay together, and so do the turns of a conversation; requested shares and
    counts are met as closely as that allows. A turn that many conversations share does not keep them
    together: rows whose source is such a turn are trained on and never held out. The same files and
    `split_seed` give the same split on every machine.

    Args:
        settings: the recipe's `data`.
        allow_leakage: allow a source of an `eval` or `test` file to be in another part too.
        folder: receives rows that are not kept in memory (`stored/`); by default a temporary folder.
            Rows that were read into this folder earlier are reused, and an interrupted reading is continued.
        is_own: whether this process may write to that folder.
        progress: called with sentences about the progress of reading, if rows are kept in files.

    Raises:
        DataError: a file is unusable, there are too few rows, or a source of an `eval` or `test`
            file is in another part too, although that is not allowed.
    """
    located = locate_parts(settings)
    reason = storage_reason(settings, located)
    read = (
        read_parts(located, settings)
        if reason is None
        else _read_stored_parts(located, settings, folder, progress, is_own=is_own)
    )
    parts = {part: own.examples for part, own in read.items()}
    notes = _notes(located, read)
    if reason is not None:
        notes.append(Message("rows are kept in files, because {reason}", reason=reason))
    if len(parts) > 1 and not allow_leakage:
        parts, left_out = without_shared_turns(parts)
        notes += left_out
        refuse_leaks(parts)
    train_name = shown_data(settings.train)
    wanted = rows_wanted(settings, parts["train"], train_name)
    parts |= split_rows(parts["train"], wanted, settings, train_name)
    if wanted and (num_shared := count_shared(parts["train"])):
        notes.append(
            Message(
                "{train_name}: the sources of {num_shared:,} rows are turns that many "
                "conversations share; these rows are trained on and are not used for {wanted}",
                train_name=train_name,
                num_shared=num_shared,
                wanted=joined(" and ", wanted),
            )
        )
    for part, number in wanted.items():
        if number != len(parts[part]):
            notes.append(
                Message(
                    "{part} has {num_parts} rows instead of the requested {number}, because rows "
                    "with the same source and turns of one conversation stay together",
                    part=part,
                    num_parts=len(parts[part]),
                    number=number,
                )
            )
    return Split(
        train=parts["train"],
        eval=parts.get("eval", []),
        test=parts.get("test", []),
        files=_sha256(read),
        notes=notes,
        dropped=_dropped(read),
    )


def _by_id(
    saved: SplitRecord, read: Mapping[Part, PartContents], shown_as: str
) -> dict[Part, Sequence[Example]]:
    """Return, for each part, the rows that split.json lists by id.

    Raises:
        DataError: some of these rows are no longer read as examples.
    """
    by_id = {example.id: example for own in read.values() for example in own.examples}
    lost = [
        Problem(
            Message(
                "row {row} of {row_2} is in the split, but is no longer read as an example",
                row=row[1],
                row_2=row[0],
            ),
            where=shown_as,
        )
        for part in PARTS
        for row in getattr(saved, part)
        if row not in by_id
    ]
    if lost:
        raise DataError(
            [*lost, Problem(Message("a setting of `data` differs from the run's"), where=shown_as)]
        )
    return {part: [by_id[row] for row in getattr(saved, part)] for part in PARTS}


def _read_stored_parts(
    located: Mapping[Part, DataLocation],
    settings: DataSettings,
    folder: Path | None,
    progress: Progress,
    known: Mapping[str, str] | None = None,
    *,
    is_own: bool,
) -> dict[Part, PartContents]:
    """Call `read_stored_parts`, imported only now with numpy: recipe errors are reported without numpy."""
    from loraloom.data.stored.row_files import read_stored_parts

    return read_stored_parts(located, settings, folder, progress, known, is_own=is_own)


def _in_ranges(
    saved: SplitRecord, read: Mapping[Part, PartContents], shown_as: str
) -> dict[Part, Sequence[Example]]:
    """Return, for each part, the stored rows that split.json lists as ranges.

    Raises:
        DataError: a range ends after the last row that is now read from the files.
    """
    from loraloom.data.stored.example_file import StoredExamples, in_ranges

    parts: dict[Part, Sequence[Example]] = {}
    for part in PARTS:
        own = read.get(part, read["train"]).examples
        assert isinstance(own, StoredExamples)
        ranges = saved.ranges.get(part, "")
        if max((last for _, last in read_ranges(ranges)), default=0) > len(own):
            raise DataError(Message("a setting of `data` differs from the run's"), where=shown_as)
        parts[part] = in_ranges(own, ranges)
    return parts


def _sha256(read: Mapping[Part, PartContents]) -> dict[str, str]:
    return {name: sha256 for own in read.values() for name, sha256 in own.sha256.items()}


def _dropped(read: Mapping[Part, PartContents]) -> dict[str, list[DroppedRow]]:
    return {name: rows for own in read.values() for name, rows in own.dropped.items()}


def _notes(located: Mapping[Part, DataLocation], read: Mapping[Part, PartContents]) -> list[str]:
    of_files = [note for own in located.values() for note in own.notes]
    return of_files + [note for own in read.values() for note in own.notes]
