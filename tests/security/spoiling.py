"""How a good folder is made hostile: files that run when read, headers that lie, links that lead out."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

# Not secret; it stands for a file of the user's that a hostile folder would like to see.
SECRET = "SECRET5e1d"


def change_json(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(values | changes), encoding="utf-8")


class Deed:
    """Makes the canary file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.canary), "w")


def evil_pickle(canary: Path) -> bytes:
    """A plain pickle, as `pickle.load` and old torch files have it."""
    return pickle.dumps({"shared.weight": Deed(canary)}, protocol=2)


def write_evil_code(folder: Path, canary: Path, *names: str) -> None:
    """Python files that make the canary when they are imported."""
    for name in names:
        (folder / name).write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")


def write_safetensors(file: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> None:
    """A safetensors file of any header: 8 bytes of its length, JSON, data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def read_header(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header


def change_header(file: Path, **entry: Any) -> None:
    """Make the first tensor's entry lie."""
    content, header = file.read_bytes(), read_header(file)
    (length,) = struct.unpack("<Q", content[:8])
    first = next(name for name in header if name != "__metadata__")
    header[first] |= entry
    write_safetensors(file, header, content[8 + length :])


HEADERS: dict[str, Any] = {
    "a header of 2^60 bytes": lambda file: write_safetensors(file, {}, length=2**60),
    "a header longer than the file": lambda file: write_safetensors(file, {}, length=5_000),
    "a header of 90 MB": lambda file: write_safetensors(file, b" " * 90_000_000),
    "a header that is no JSON": lambda file: write_safetensors(file, b"\xff" * 64),
    "a header nested deep": lambda file: write_safetensors(file, b'{"a":' * 50_000),
    "no header": lambda file: file.write_bytes(b"\x00" * 8),
    "an empty file": lambda file: file.write_bytes(b""),
    "offsets beyond the end": lambda file: change_header(file, data_offsets=[0, 2**62]),
    "offsets that overlap": lambda file: change_header(file, data_offsets=[64, 192]),
    "offsets backwards": lambda file: change_header(file, data_offsets=[4096, 0]),
    "a shape beyond the data": lambda file: change_header(file, shape=[2**31, 2**31]),
    "a shape that overflows": lambda file: change_header(file, shape=[2**62, 2**62]),
    "a dtype of another width": lambda file: change_header(file, dtype="I8"),
    "a dtype that is none": lambda file: change_header(file, dtype="os.system"),
}
