"""The choice of whether to keep the rows of a recipe in memory or in files, with the reason for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loraloom.data.files.data_file import DataFile
from loraloom.data.files.location import DataLocation
from loraloom.data.formats.compression import compression_of, data_suffix
from loraloom.data.formats.parquet import HUB_PREFIX, hub_bytes, parquet_bytes
from loraloom.data.splitting.part_sizes import Part
from loraloom.recipe import DataSettings
from loraloom.text.message import Message
from loraloom.text.units import size

Progress = Callable[[str], None]

# In memory a row takes about three times its bytes in the file, so this is less than half a gigabyte.
MOST_BYTES_IN_MEMORY = 100 * 2**20
# Usual factor by which gzip and similar formats compress text.
_COMPRESSION = 4


def storage_reason(settings: DataSettings, located: Mapping[Part, DataLocation]) -> Message | None:
    """Return why the rows are kept in files; None if they are kept in memory.

    Args:
        settings: the recipe's `data`, of which `keep_rows` and the settings for hub datasets are used.
        located: the files of each part.
    """
    if settings.keep_rows != "auto":
        return Message("`data.keep_rows` is `disk`") if settings.keep_rows == "disk" else None
    num_bytes = sum(_row_bytes(file, settings) for own in located.values() for file in own.files)
    if num_bytes <= MOST_BYTES_IN_MEMORY:
        return None
    return Message(
        "the data takes up {num_bytes}, more than {most}",
        num_bytes=size(num_bytes),
        most=size(MOST_BYTES_IN_MEMORY),
    )


def _row_bytes(file: DataFile, settings: DataSettings) -> int:
    """Estimate the uncompressed size of a file's rows, in bytes; 0 for a file that cannot be read."""
    if file.name.startswith(HUB_PREFIX):
        return hub_bytes(file.name, settings)
    path: Path = file.path
    try:
        if data_suffix(path) == ".parquet":
            return parquet_bytes(path)
        return path.stat().st_size * (_COMPRESSION if compression_of(path) else 1)
    except OSError:
        return 0
