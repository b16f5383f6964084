"""Conversion of Parquet files and hub datasets to rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loraloom.data.formats.arrow_packages import missing_package
from loraloom.data.formats.cells import Convert, exact_columns, exact_row
from loraloom.data.formats.row import Findings, Row
from loraloom.errors import DataError
from loraloom.recipe import DataSettings
from loraloom.text.hub_name import is_hub_name, split_hub_name
from loraloom.text.message import Message
from loraloom.text.visible import one_line

HUB_PREFIX = "hub:"
PARQUET_BATCH_ROWS = 1_024
_HUB_NAMES = ("hub:owner/name", "hub:owner/name@revision")


def read_parquet(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the rows of a .parquet file, one batch at a time.

    Raises:
        DataError: pyarrow is not installed, or the file is damaged or incomplete.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_package(error, shown_as) from None

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            findings.num_rows = file.metadata.num_rows
            exact = _exact(file.schema_arrow, settings, shown_as, findings)
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(shown_as, number, None, exact_row(values, exact))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            Message(
                "is not a complete Parquet file ({name} after row {number})",
                name=type(error).__name__,
                number=number,
            ),
            where=shown_as,
            fix=Message("Write or download the file again."),
        ) from None


def parquet_bytes(path: Path) -> int:
    """Read the uncompressed size in bytes of a .parquet file's rows from its footer; 0 if that fails."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        return 0  # reading the file reports what is missing
    try:
        metadata = parquet.read_metadata(path)
    except (arrow.ArrowException, OSError, ValueError):
        return 0
    return sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))


def hub_bytes(shown_as: str, settings: DataSettings) -> int:
    """Return the size in bytes of a hub dataset's rows; 0 if it is unknown or the dataset does not load."""
    try:
        dataset = _load_hub(shown_as.removeprefix(HUB_PREFIX), settings, shown_as)
    except DataError:
        return 0  # reading the dataset reports why
    data = getattr(dataset, "data", None)  # an Arrow table, which is mapped from the cache
    return int(getattr(data, "nbytes", 0) or 0)


def read_hub(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Read the rows of a hub dataset, `hub:owner/name[@revision]`, which the hub library caches.

    Raises:
        DataError: the name is invalid, `datasets` is not installed, or the dataset cannot be loaded.
    """
    name = shown_as.removeprefix(HUB_PREFIX)
    if not is_hub_name(name):
        raise DataError(
            Message("is not the name of a hub dataset"), where=shown_as, allowed=", ".join(_HUB_NAMES)
        )
    dataset = _load_hub(name, settings, shown_as)
    findings.num_rows = len(dataset)
    features = getattr(dataset, "features", None)
    exact = _exact(features.arrow_schema, settings, shown_as, findings) if features else {}
    for number, values in enumerate(dataset, start=1):
        yield Row(shown_as, number, None, exact_row(values, exact))


def _exact(schema: Any, settings: DataSettings, shown_as: str, findings: Findings) -> dict[str, Convert]:
    return exact_columns(schema, shown_as, findings) if settings.number_format == "written" else {}


def _load_hub(name: str, settings: DataSettings, shown_as: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_package(error, shown_as) from None

    try:
        repository, revision = split_hub_name(name)
        return datasets.load_dataset(
            repository, settings.hub_config, split=settings.hub_split, revision=revision
        )
    except ConnectionError:
        what = Message("the hub cannot be reached, and the dataset is not in the local cache")
        fix = Message("Go online once, or save the dataset as a .parquet or .jsonl file and use that.")
    except FileNotFoundError:
        what = Message(
            "the hub has no such dataset, the dataset requires a login, or the hub cannot be reached"
        )
        fix = Message("Check the name; for a private dataset, log in with `hf auth login`.")
    except Exception as error:  # builder errors have no common class, and some quote a row
        # The list of configurations is on the second line; pyarrow quotes the row.
        is_told = isinstance(error, ValueError) and not type(error).__module__.startswith("pyarrow")
        reason = one_line(error) if is_told else ""
        what = (
            Message("cannot be loaded ({name}: {reason})", name=type(error).__name__, reason=reason)
            if reason
            else Message("cannot be loaded ({name}{reason})", name=type(error).__name__, reason=reason)
        )
        fix = Message("Choose the configuration and split with `data.hub_config` and `data.hub_split`.")
    raise DataError(what, where=shown_as, fix=fix)
