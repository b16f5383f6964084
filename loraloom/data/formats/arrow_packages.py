"""Packages for Parquet, Arrow and hub datasets (about 270 MB), which a plain installation leaves out."""

from __future__ import annotations

from loraloom.errors import DataError
from loraloom.text.message import Message


def missing_package(error: ImportError, shown_as: str) -> DataError:
    """Return the error for a file or dataset whose reader cannot be imported.

    Args:
        error: the error that the import raised.
        shown_as: name of the file or dataset in messages.
    """
    return DataError(
        Message("cannot be read, because {package} is not installed", package=error.name or str(error)),
        where=shown_as,
        fix=Message("Install it with `pip install 'loraloom[parquet]'`, or save the rows as .jsonl or .csv."),
    )
