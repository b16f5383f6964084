"""Tables to rows: CSV and TSV, Parquet, and datasets of the hub."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loraloom.data.formats.row import Findings, Row, location
from loraloom.data.formats.text import text_chunks, text_lines
from loraloom.errors import DataError, Problem, one_line
from loraloom.recipe import DataSettings

HUB_PREFIX = "hub:"
MAX_CELL_CHARS = 1 << 24
MAX_NAME_CHARS = 80
PARQUET_BATCH_ROWS = 1_024
_HUB_NAME = re.compile(r"[\w.\-]+(/[\w.\-]+)?")
_QUOTING = "A cell with the separator, a quote or a line break in it stands in double quotes."


def has_header(shown_as: str) -> bool:
    """Whether a file's own first line names its columns, so that it may be a row if the header is missing."""
    return Path(shown_as).suffix.lower() in (".csv", ".tsv")


def read_csv(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of a .csv or .tsv file with a header; reading goes on after a bad row."""
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    # The module's default of 131,072 would refuse long documents; a bound stays, for an unclosed quote.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARS))
    lines = text_lines(text_chunks(path, settings.encoding, shown_as, findings))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    header: list[str] | None = None
    number = 0
    while True:
        begins_on = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            number += header is not None
            what = f"row {number}" if header else "the header"
            findings.refuse(_bad_csv(error, what, location(shown_as, begins_on)), number)
            if header is None:
                return
            continue
        if _is_blank_line(cells, header):
            continue
        if header is None:
            header = _header(cells, separator, location(shown_as, begins_on))
            continue
        number += 1
        if len(cells) == len(header):
            yield Row(shown_as, number, begins_on, dict(zip(header, cells, strict=True)))
        else:
            findings.refuse(
                Problem(
                    f"row {number}: its number of cells is not the header's",
                    where=location(shown_as, begins_on),
                    found=str(len(cells)),
                    allowed=str(len(header)),
                    fix=_QUOTING,
                ),
                number,
            )


def read_parquet(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of a .parquet file, a batch at a time."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            findings.num_rows = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(shown_as, number, None, values)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"is not a whole Parquet file ({type(error).__name__} after row {number})",
            where=shown_as,
            fix="Write or download it again.",
        ) from None


def read_hub(path: Path, settings: DataSettings, shown_as: str, findings: Findings) -> Iterator[Row]:
    """Rows of a dataset of the hub, `hub:owner/name`; kept in the hub library's own cache."""
    name = shown_as.removeprefix(HUB_PREFIX)
    if not _HUB_NAME.fullmatch(name):
        raise DataError("is not a hub dataset's name", where=shown_as, allowed="hub:owner/name")
    dataset = _load_hub(name, settings, shown_as)
    findings.num_rows = len(dataset)
    for number, values in enumerate(dataset, start=1):
        yield Row(shown_as, number, None, values)


def _load_hub(name: str, settings: DataSettings, shown_as: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, settings.hub_config, split=settings.hub_split)
    except ConnectionError:
        what = "the hub cannot be reached, and the dataset is not in the local cache"
        fix = "Go online once, or save the dataset as a .parquet or .jsonl file and name that."
    except FileNotFoundError:
        what = "the hub has no such dataset, or it needs a login, or the hub cannot be reached"
        fix = "Check the name; for a private one, log in with `hf auth login`."
    except Exception as error:  # builder errors have no common class, and some quote a row
        # The list of configurations stands on a second line; pyarrow quotes the row.
        is_told = isinstance(error, ValueError) and not type(error).__module__.startswith("pyarrow")
        reason = one_line(error) if is_told else ""
        what = f"cannot be loaded ({type(error).__name__}{': ' if reason else ''}{reason})"
        fix = "`data.hub_config` and `data.hub_split` choose its configuration and split."
    raise DataError(what, where=shown_as, fix=fix)


def _is_blank_line(cells: list[str], header: list[str] | None) -> bool:
    if not cells or header is None:
        return not "".join(cells).strip()
    return len(cells) == 1 < len(header) and not cells[0].strip()


def _header(cells: list[str], separator: str, where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    places: dict[str, int] = {}
    for position, name in enumerate(names, start=1):
        if not name:
            raise DataError(f"the header's cell {position} is empty; it must name a column", where=where)
        if len(name) > MAX_NAME_CHARS or "\n" in name:
            raise DataError(
                f"the first line must name the columns, but its cell {position} has {len(name)} characters",
                where=where,
                fix="Put a header in front, such as `instruction,response`.".replace(",", separator),
            )
        first = places.setdefault(name, position)
        if first != position:  # without a header these would be a row's, so no name is shown
            raise DataError(f"the header's cells {first} and {position} are the same name", where=where)
    others = [mark for mark in (";", "\t", ",", "|") if mark != separator and mark in names[0]]
    if len(names) == 1 and others:
        shown = {"\t": "a tab"}.get(others[0], f"`{others[0]}`")
        raise DataError(
            f"the header has one column, and {shown} inside it: the separator is probably another",
            where=where,
            fix="Separate cells by commas in a .csv file, by tabs in a .tsv file.",
        )
    return names


def _bad_csv(error: csv.Error, what: str, where: str) -> Problem:
    message = str(error)
    if "unexpected end of data" in message:
        told = "opens a double quote that nothing closes"
    elif "field larger" in message:
        told = f"has a cell of more than {MAX_CELL_CHARS:,} characters; a double quote is probably not closed"
    elif "expected after" in message:
        told = "has text right after a closing double quote"
    else:  # the one error left: a carriage return that is neither quoted nor the end of a line
        told = "has a carriage return outside double quotes; lines end in \\n or \\r\\n"
    return Problem(f"{what} {told}", where=where, fix=_QUOTING)
