"""Conversion of a data file to a stream of rows, each with the name of its file and its line number.

path ──suffix──▶ formats/json_rows.py, delimited.py, … ──▶ Row, Row, Row, …
                                                      └──▶ Findings: notes, problems, rows left out
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from loraloom.data.formats.arrow import read_arrow
from loraloom.data.formats.compression import COMPRESSED, compression_of, data_suffix
from loraloom.data.formats.delimited import read_csv
from loraloom.data.formats.json_rows import read_json
from loraloom.data.formats.parquet import HUB_PREFIX, read_hub, read_parquet
from loraloom.data.formats.row import Findings, Row, check_file
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, joined

__all__ = ["FORMATS", "Findings", "Row", "read_rows", "scan_rows"]

Reader = Callable[[Path, DataSettings, str, Findings], Iterator[Row]]

FORMATS: dict[str, Reader] = {
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}
TEXT_FORMATS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
_OTHER_SUFFIXES = {
    ".zip": Message("Unpack it first."),
    ".tar": Message("Unpack it first."),
    ".tgz": Message("Unpack it first."),
    ".zst": Message("Decompress it first."),
    ".lz4": Message("Decompress it first."),
    ".xlsx": Message("Save the sheet as CSV (UTF-8)."),
    ".xls": Message("Save the sheet as CSV (UTF-8)."),
}


def read_rows(path: Path, settings: DataSettings, *, shown_as: str) -> Iterator[Row]:
    """Read a data file row by row.

    Args:
        path: the file; ignored if `shown_as` is a hub dataset, `hub:owner/name`.
        settings: `encoding`, `delimiter`, `quoting`, `number_format`, `columns` (to find the rows in JSON),
            `on_invalid`, `hub_config` and `hub_split` are used.
        shown_as: the file's name in rows and messages, as written by the user.

    Yields:
        The rows, in file order.

    Raises:
        DataError: the file cannot be read, has no rows, or has invalid ones. If reading can continue
            after an invalid row, this is raised at the end and contains every problem.
    """
    findings = Findings(on_invalid=settings.on_invalid)
    yield from scan_rows(path, settings, shown_as=shown_as, findings=findings)
    findings.raise_problems()


def scan_rows(
    path: Path, settings: DataSettings, *, shown_as: str, findings: Findings, also: Sequence[str] = ()
) -> Iterator[Row]:
    """Read rows as `read_rows` does, but add all problems to `findings` instead of raising them.

    Args:
        findings: receives the problems, in file order; the caller may add further problems.
        also: suffixes of files that the caller reads itself, for the message about an unknown suffix.
    """
    none_yet = True
    try:
        for row in _reader(path, shown_as, also)(path, settings, shown_as, findings):
            none_yet = False
            yield row
    except DataError as error:
        for problem in error.problems:
            findings.refuse(problem)
    if none_yet and not findings.num_problems and not findings.dropped:
        findings.refuse(
            Problem(
                Message("contains no rows"),
                where=shown_as,
                fix=Message("Check that this is the intended file."),
            )
        )


def is_readable(path: Path) -> bool:
    """Return whether a file's name has a supported suffix."""
    suffix = data_suffix(path)
    return suffix in (TEXT_FORMATS if compression_of(path) else FORMATS)


def _reader(path: Path, shown_as: str, also: Sequence[str]) -> Reader:
    if shown_as.startswith(HUB_PREFIX):
        return read_hub
    check_file(path, shown_as)
    if is_readable(path):
        return FORMATS[data_suffix(path)]
    suffix = data_suffix(path)
    if suffix in FORMATS:
        raise DataError(
            Message("a compressed {suffix} file cannot be read", suffix=suffix),
            where=shown_as,
            fix=Message("Decompress it first; the format already compresses its columns."),
        )
    raise DataError(
        Message("files ending in `{suffix}` cannot be read", suffix=suffix)
        if suffix
        else Message("has no suffix that indicates its format"),
        where=shown_as,
        allowed=joined(", ", [*FORMATS, *also])
        + Message("; text formats may be compressed as {compressed}", compressed=", ".join(COMPRESSED)),
        fix=_OTHER_SUFFIXES.get(suffix, ""),
    )


def digested(rows: Iterator[Row], digest: hashlib._Hash) -> Iterator[Row]:
    """Yield rows unchanged and update a digest with each; for hub datasets, which have no file to hash."""
    for row in rows:
        digest.update(json.dumps(row.values, sort_keys=True, default=repr).encode())
        yield row
