"""Writing of examples to the files described in `example_file.py`; an interrupted writer can be continued."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from loraloom.data.example import Example
from loraloom.data.splitting.groups import source_key
from loraloom.data.stored.column_file import ColumnWriter
from loraloom.data.stored.example_file import KEY, NAMES, RECORD
from loraloom.text.message import Message

PROGRESS_EVERY = 1_000_000
_CHUNK = 4096


class ExampleWriter:
    """An append-only list of examples that is kept in files.

    It can also be passed as `RowGroups`, but its `join` records nothing: the groups are computed from the
    files at the end.

    Args:
        folder: receives the files.
        before: the last result of `flush` of an earlier writer, after which to continue; {} to begin.
        progress: called with a sentence after every million examples.
    """

    def __init__(self, folder: Path, before: Mapping[str, Any], progress: Callable[[str], None]) -> None:
        self._length: int = before.get("examples", 0)
        self._num_entries: int = before.get("rows", 0)
        self._text_bytes: int = before.get("bytes", 0)
        self._texts, self._records, self._keys = (
            ColumnWriter(folder / name, size) for name, size in _sizes(before).items()
        )
        self._files = {name: number for number, name in enumerate(before.get("files", ()))}
        self._languages = {(own[0], own[1]): n for n, own in enumerate(before.get("languages", ()))}
        self._progress = progress
        self._pending: list[tuple[Any, ...]] = []
        self._pending_keys: list[bytes] = []
        self._text: list[bytes] = []
        self._last: tuple[str, int] | None = None

    def join(self, row: tuple[str, int], sources: Iterable[str]) -> None:
        """Do nothing: groups are computed from the keys of all examples."""

    def extend(self, examples: Iterable[Example]) -> None:
        """Append examples of one row."""
        for example in examples:
            if self._last != (example.path, example.row):
                self._last = (example.path, example.row)
                self._num_entries += 1
            self._append(example)
        if len(self._pending) >= _CHUNK:
            self._write()

    def _append(self, example: Example) -> None:
        source, response = (
            text.encode("utf-8", "surrogatepass") for text in (example.source, example.response)
        )
        answer = hashlib.blake2b(response, digest_size=8).digest()
        languages = (example.source_lang, example.target_lang)
        self._pending.append(
            (
                self._text_bytes,
                len(source),
                len(response),
                len(example.parts),
                example.row,
                -1 if example.line is None else example.line,
                example.turn,
                self._num_entries - 1,
                self._files.setdefault(example.path, len(self._files)),
                self._languages.setdefault(languages, len(self._languages)),
                example.has_history,
                int.from_bytes(answer, "little"),
                len(example.response),
            )
        )
        self._pending_keys.append(source_key(example.source))
        self._text += (source, response, example.parts)
        self._text_bytes += len(source) + len(response) + len(example.parts)
        self._length += 1
        if self._length % PROGRESS_EVERY == 0:
            self._progress(Message("{examples:,} rows have been read", examples=self._length))

    def _write(self) -> None:
        self._texts.append(b"".join(self._text))
        self._records.append(np.array(self._pending, RECORD))
        self._keys.append(b"".join(self._pending_keys))
        self._pending, self._pending_keys, self._text = [], [], []

    def flush(self) -> dict[str, Any]:
        """Flush everything to the disk, and return the state that a later writer, or a reader, needs."""
        self._write()
        for column in (self._texts, self._records, self._keys):
            column.flush()
        return {
            "examples": self._length,
            "rows": self._num_entries,
            "bytes": self._text_bytes,
            "files": list(self._files),
            "languages": [list(pair) for pair in self._languages],
        }

    def close(self) -> None:
        """Close the files."""
        for column in (self._texts, self._records, self._keys):
            column.close()


def _sizes(written: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of bytes that a writer has written to each file, from the result of `flush`."""
    length = written.get("examples", 0)
    sizes = written.get("bytes", 0), length * RECORD.itemsize, length * KEY.itemsize
    return dict(zip(NAMES[:3], sizes, strict=True))


def are_written(folder: Path, written: Mapping[str, Any]) -> bool:
    """Return whether the files in a folder are at least as long as the result of `flush` implies."""
    files = {folder / name: size for name, size in _sizes(written).items() if size}
    return all(file.is_file() and file.stat().st_size >= size for file, size in files.items())
