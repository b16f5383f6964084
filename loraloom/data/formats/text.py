"""Strict decoding of a text file in pieces of limited size, and splitting into lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from loraloom.data.formats.charset import likely_encoding, wide_encoding
from loraloom.data.formats.compression import open_data
from loraloom.data.formats.row import Findings, location
from loraloom.errors import DataError
from loraloom.text.message import Message

CHUNK_BYTES = 1 << 16
SAMPLE_BYTES = 1 << 16
_SINGLE_BYTE = re.compile(rb"[\x00-\x2f]")


def text_chunks(path: Path, encoding: str, shown_as: str, findings: Findings) -> Iterator[str]:
    """Decode a file in pieces, so that it never has to fit in memory.

    Args:
        path: a readable file; decompressed while reading if its name shows that it is compressed.
        encoding: the value of `data.encoding` in the recipe.
        shown_as: the file's name in messages.
        findings: receives a note if a byte order mark was skipped, and how many bytes of the file were read.

    Yields:
        Non-empty pieces of text, without a byte order mark.

    Raises:
        DataError: the encoding is unknown, or the bytes are not valid in it. The message names the byte
            offset and the probable encoding.
    """
    codec = text_codec(encoding)
    with open_data(path, shown_as) as (file, position):
        head = file.read(CHUNK_BYTES)
        data = _without_mark(head, codec.name, shown_as, findings)
        offset, line = len(head) - len(data), 1
        decoder = codec.incrementaldecoder("strict")
        while True:
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeError as error:
                raise _undecodable(error, offset - pending, line, codec.name, file, shown_as) from None
            line += text.count("\n")
            offset += len(data)
            findings.bytes_read = position()
            if text:
                yield text
            if not data:
                return
            data = file.read(CHUNK_BYTES)


def text_lines(chunks: Iterable[str]) -> Iterator[str]:
    r"""Yield lines, including their `\n`; other separators, such as U+2028, do not end a line."""
    pieces: list[str] = []
    for chunk in chunks:
        first, *others = chunk.split("\n")
        pieces.append(first)
        if not others:
            continue
        yield "".join(pieces) + "\n"
        for line in others[:-1]:
            yield line + "\n"
        pieces = [others[-1]]
    if rest := "".join(pieces):
        yield rest


def numbered_lines(path: Path, encoding: str, shown_as: str, findings: Findings) -> Iterator[tuple[int, str]]:
    """Yield each line of a text file as its number, from 1, and its text without the line break.

    Args:
        path, encoding, shown_as, findings: as in `text_chunks`.

    Raises:
        DataError: as in `text_chunks`.
    """
    for number, line in enumerate(text_lines(text_chunks(path, encoding, shown_as, findings)), start=1):
        yield number, line.removesuffix("\n").removesuffix("\r")


def text_codec(encoding: str) -> codecs.CodecInfo:
    """Look up the codec of a character encoding.

    Raises:
        DataError: no codec has that name, or it is not a text codec.
    """
    try:
        codec = codecs.lookup(encoding)
        # rot13, base64 and the like are codecs too, but an incremental decoder is needed here.
        usable = isinstance(codec.incrementaldecoder("strict").decode(b""), str)
    except (LookupError, ValueError, TypeError, UnicodeError):
        usable = False
    if not usable:
        raise DataError(
            Message("`{encoding}` is not a known character encoding", encoding=encoding[:40]),
            where="data.encoding",
            allowed=Message("utf-8, gbk, gb18030, big5, utf-16, cp1252 or another of Python's text codecs"),
        )
    return codec


def _without_mark(head: bytes, codec_name: str, shown_as: str, findings: Findings) -> bytes:
    if head.startswith(codecs.BOM_UTF8):
        if not codec_name.startswith("utf-8"):
            raise DataError(
                Message(
                    "begins with the byte order mark of UTF-8, but `data.encoding` is {codec_name}",
                    codec_name=codec_name,
                ),
                where=shown_as,
                fix=Message("Set `data.encoding: utf-8`."),
            )
        findings.notes.append(
            Message("{shown_as} begins with a byte order mark, which was skipped", shown_as=shown_as)
        )
        return head[len(codecs.BOM_UTF8) :]
    wide = wide_encoding(head)
    if wide is not None and not codec_name.startswith(("utf-16", "utf-32")):
        raise DataError(
            Message(
                "is not {codec_name} text: it looks like {upper}", codec_name=codec_name, upper=wide.upper()
            ),
            where=shown_as,
            fix=Message("Set `data.encoding: {wide}`, or save the file as UTF-8.", wide=wide),
        )
    return head


def _undecodable(
    error: UnicodeError, offset: int, line: int, codec_name: str, file: BinaryIO, shown_as: str
) -> DataError:
    """Return the error for undecodable bytes; `offset` is the decoded chunk's position in the file."""
    if not isinstance(error, UnicodeDecodeError):
        return DataError(
            Message("is not {codec_name} text: {error}", codec_name=codec_name, error=error),
            where=shown_as,
            fix=Message("Set `data.encoding` to the encoding of the file."),
        )
    before = error.object[: error.start]
    likely = likely_encoding(_around(file, offset + error.start))
    if likely == codec_name:
        likely = None
    line += before.count(b"\n") if not codec_name.startswith(("utf-16", "utf-32")) else 0
    looks = Message("; the text looks like {upper}", upper=likely.upper()) if likely else ""
    return DataError(
        Message(
            "byte {offset} is not valid {codec_name}{looks}",
            offset=offset + error.start,
            codec_name=codec_name,
            looks=looks,
        ),
        where=location(shown_as, line),
        found=f"0x{error.object[error.start]:02x}",
        fix=(
            Message("Set `data.encoding: {likely}`, or save the file as UTF-8.", likely=likely)
            if likely
            else Message("Save the file as UTF-8, or set `data.encoding` to its encoding.")
        ),
    )


def _around(file: BinaryIO, offset: int) -> bytes:
    """Read the bytes on both sides of an offset, starting where a character certainly begins."""
    start = max(0, offset - SAMPLE_BYTES // 2)
    file.seek(start)
    sample = file.read(SAMPLE_BYTES)
    # Bytes below 0x30 are single characters in UTF-8 and in all encodings that are distinguished here.
    surely = _SINGLE_BYTE.search(sample) if start else None
    return sample[surely.end() :] if surely else sample
