"""Decompression of data files as they are read, and the suffixes of data formats."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from loraloom.errors import DataError
from loraloom.text.message import Message

# Suffix -> decompressor from the standard library. Users must decompress other formats themselves.
_OPENERS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw)),
    ".bz2": lambda raw: cast(BinaryIO, bz2.BZ2File(raw)),
    ".xz": lambda raw: cast(BinaryIO, lzma.LZMAFile(raw)),  # noqa: SIM115
}
COMPRESSED = tuple(_OPENERS)
_MAGIC = {
    ".gz": re.compile(rb"\x1f\x8b"),
    ".bz2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),  # with blocks, or empty
    ".xz": re.compile(rb"\xfd7zXZ\0"),
}
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def data_suffix(path: Path | str) -> str:
    """Return the lower-case suffix that names a file's format: `.json` for `rows.json` and `rows.JSON.gz`."""
    path = Path(path)
    inner = Path(path.stem) if compression_of(path) else path
    return inner.suffix.lower()


def data_stem(path: Path | str) -> str:
    """Return a file's name without its format suffixes: `rows` for `rows.json.gz`."""
    path = Path(path)
    return Path(path.stem).stem if compression_of(path) else path.stem


def compression_of(path: Path | str) -> str:
    """Return `.gz`, `.bz2` or `.xz` if a file's name ends with it; otherwise ""."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in _OPENERS else ""


@contextmanager
def open_data(path: Path, shown_as: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Open a file for reading bytes, decompressing it if its name shows that it is compressed.

    Args:
        path: a readable file.
        shown_as: its name in messages.

    Yields:
        A seekable file of the decompressed bytes, and a function that returns how many bytes of the file on
        disk have been read.

    Raises:
        DataError: the file cannot be read, its compression is not the one in its name, or the body of the
            `with` statement reads data that is damaged or missing.
    """
    compression = compression_of(path)
    try:
        with path.open("rb") as raw:
            _check_magic(raw.read(10), compression, shown_as)
            raw.seek(0)
            if not compression:
                yield raw, raw.tell
                return
            with _OPENERS[compression](raw) as file:
                yield file, raw.tell
    except _DAMAGE:
        raise _damaged(compression, shown_as) from None
    except OSError as error:
        if compression and error.errno is None:  # bz2 reports damage this way
            raise _damaged(compression, shown_as) from None
        raise DataError(
            Message("cannot be read: {strerror}", strerror=error.strerror), where=shown_as
        ) from None


def _check_magic(head: bytes, compression: str, shown_as: str) -> None:
    found = next((suffix for suffix, magic in _MAGIC.items() if magic.match(head)), "")
    if found == compression or not head:
        return
    if found:
        raise DataError(
            Message("is compressed with {found}, but its name does not say so", found=found[1:]),
            where=shown_as,
            fix=Message(
                "Rename it so that it ends in `{data_suffix}{found}`.",
                data_suffix=data_suffix(shown_as),
                found=found,
            ),
        )
    raise DataError(
        Message(
            "is not compressed with {compression}, although its name says it is", compression=compression[1:]
        ),
        where=shown_as,
        fix=Message(
            "If a download has already decompressed it, rename it without `{compression}`.",
            compression=compression,
        ),
    )


def _damaged(compression: str, shown_as: str) -> DataError:
    return DataError(
        Message(
            "is damaged or truncated: its {compression} data cannot be decompressed to the end",
            compression=compression[1:],
        ),
        where=shown_as,
        fix=Message("Copy or download the file again."),
    )
