"""A data file's bytes, decompressed as they are read, and the suffix that says what they are."""

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

# Suffix -> what decompresses it. What is not in the standard library is decompressed by hand.
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
    """The suffix that names a file's format, in lower case: `.json` of `rows.json`, and of `rows.JSON.gz`."""
    path = Path(path)
    inner = Path(path.stem) if compression_of(path) else path
    return inner.suffix.lower()


def data_stem(path: Path | str) -> str:
    """A file's name without what says its format: `rows` of `rows.json.gz`."""
    path = Path(path)
    return Path(path.stem).stem if compression_of(path) else path.stem


def compression_of(path: Path | str) -> str:
    """`.gz`, `.bz2` or `.xz`, if a file's name ends so; else nothing."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in _OPENERS else ""


@contextmanager
def open_data(path: Path, shown_as: str) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """Open a file for its bytes, decompressed on the way if its name says that it is compressed.

    Args:
        path: a readable file.
        shown_as: its name in messages.

    Yields:
        The bytes, as a file that can seek; and a function for how many bytes of the file on disk
        have been read.

    Raises:
        DataError: the file is not of the compression that its name says, or is compressed though
            its name does not say so; and whatever the body reads of it that is damaged or missing.
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
        if compression and error.errno is None:  # bz2 reports damage so
            raise _damaged(compression, shown_as) from None
        raise DataError(f"cannot be read: {error.strerror}", where=shown_as) from None


def _check_magic(head: bytes, compression: str, shown_as: str) -> None:
    found = next((suffix for suffix, magic in _MAGIC.items() if magic.match(head)), "")
    if found == compression or not head:
        return
    if found:
        raise DataError(
            f"is compressed as {found[1:]}, and its name does not say so",
            where=shown_as,
            fix=f"Give it a name that ends in `{data_suffix(shown_as)}{found}`.",
        )
    raise DataError(
        f"is not compressed as {compression[1:]}, though its name says so",
        where=shown_as,
        fix=f"If a download has decompressed it already, rename it without `{compression}`.",
    )


def _damaged(compression: str, shown_as: str) -> DataError:
    return DataError(
        f"is damaged or cut off: its {compression[1:]} data cannot be decompressed to the end",
        where=shown_as,
        fix="Copy or download it again.",
    )
