"""Reading rows from `.arrow` files that `save_to_disk` or Arrow's own writers wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from loraloom.data.formats.arrow_packages import missing_package
from loraloom.data.formats.cells import Convert, exact_columns, exact_row
from loraloom.data.formats.row import Findings, Row
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.text.message import Message

ARROW_BATCH_ROWS = 1_024
_FILE_MAGIC = b"ARROW1"
_STREAM_END = b"\xff\xff\xff\xff\0\0\0\0"


def read_arrow(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the rows of an .arrow file, in Arrow's stream or file format, one batch at a time.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged or incomplete.
    """
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise missing_package(error, shown_as) from None

    number, is_written = 0, settings.number_format == "written"
    try:
        with arrow.memory_map(str(path)) as file:
            if not _has_end(file):
                # The format allows a missing end mark, but an incomplete copy may also lack it.
                findings.notes.append(
                    Message(
                        "{shown_as} has no end mark, so rows may be missing at its end", shown_as=shown_as
                    )
                )
            exact: Mapping[str, Convert] | None = None
            for batch in _batches(arrow, file):
                if exact is None:
                    exact = exact_columns(batch.schema, shown_as, findings) if is_written else {}
                for start in range(0, batch.num_rows, ARROW_BATCH_ROWS):
                    for values in batch.slice(start, ARROW_BATCH_ROWS).to_pylist():
                        number += 1
                        yield Row(shown_as, number, None, exact_row(values, exact))
    except (arrow.ArrowException, OSError, ValueError, EOFError) as error:
        raise DataError(
            Message(
                "is not a complete Arrow file ({name} after row {number})",
                name=type(error).__name__,
                number=number,
            ),
            where=shown_as,
            fix=Message("Write or download the file again."),
        ) from None


def _has_end(file: Any) -> bool:
    ends = {_STREAM_END, _FILE_MAGIC}
    return any(
        file.size() >= len(end) and file.read_at(len(end), file.size() - len(end)) == end for end in ends
    )


def _batches(arrow: Any, file: Any) -> Iterator[Any]:
    if file.size() < len(_FILE_MAGIC) or file.read_at(len(_FILE_MAGIC), 0) != _FILE_MAGIC:
        yield from arrow.ipc.open_stream(file)
        return
    reader = arrow.ipc.open_file(file)
    for position in range(reader.num_record_batches):
        yield reader.get_batch(position)
