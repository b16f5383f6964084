"""Several files packed into one byte string, to send to another process without pickling."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return files as one byte string: the length of an index of names and sizes, the index, the contents."""
    index = json.dumps([[name, len(content)] for name, content in files.items()]).encode()
    return struct.pack("<Q", len(index)) + index + b"".join(files.values())


def unpacked(content: bytes) -> dict[str, bytes]:
    """Return the files in a byte string that `packed` returned.

    Raises:
        ValueError: the bytes are truncated or not from `packed`, or a name leads out of the receiving folder.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
    except struct.error:
        raise ValueError("too short") from None
    at, files = 8 + length, {}
    for name, size in json.loads(content[8:at]):
        path = Path(str(name))
        if path.anchor or ".." in path.parts:  # receivers write files of these names
            raise ValueError(f"{name!r} is outside")
        files[str(name)] = content[at : at + size]
        at += size
    if at != len(content):
        raise ValueError(f"{len(content)} bytes instead of {at}")
    return files
