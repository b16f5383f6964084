"""Exact conversion of non-text values to text: numbers, booleans, dates, class labels.

3.10 in JSON, 3.8 in a float32 column ─▶ "3.10", "3.8"
1 in a ClassLabel column ["no", "yes"] ─▶ "yes"
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from loraloom.data.formats.row import Findings, shown_names
from loraloom.text.message import Message

if TYPE_CHECKING:
    import pyarrow as arrow

Convert = Callable[[Any], Any]
DATASETS_KEY = b"huggingface"  # `datasets` stores a table's features in the schema under this key


class WrittenNumber(float):
    """A number that also remembers how the file spells it, such as 3.10, 1e5 or -0."""

    __slots__ = ("written",)
    written: str

    def __new__(cls, value: float, written: str) -> Self:
        """Create the number `value`, spelled `written`."""
        number = super().__new__(cls, value)
        number.written = written
        return number


def as_text(value: Any, *, as_written: bool = True) -> str | None:
    """Convert a number, boolean, date or time to text; return None for anything else.

    Args:
        value: as returned by a reader. A `WrittenNumber` keeps its spelling.
        as_written: whether a `Decimal` is written out in full (0.0000001), not as Python prints it (1E-7).
    """
    if isinstance(value, WrittenNumber):
        return value.written
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal) and as_written:
        return format(value, "f")
    printed = (int, float, Decimal, datetime.date, datetime.time)
    return str(value) if isinstance(value, printed) else None


def exact_columns(schema: arrow.Schema, shown_as: str, findings: Findings) -> dict[str, Convert]:
    """Return a converter for each column with class labels or floats below 64 bits; the others need none.

    Args:
        schema: schema of an Arrow table; `datasets` writes class names into its metadata.
        shown_as: the file's name in messages.
        findings: receives a note on which columns are class labels.
    """
    features = _features(schema)
    found = {field.name: _exact(field.type, features.get(field.name)) for field in schema}
    classes = [name for name in found if _class_names(features.get(name))]
    if classes:
        findings.notes.append(
            Message(
                "{shown_as}: class labels were read as names in these columns: {shown_names}",
                shown_as=shown_as,
                shown_names=shown_names(classes),
            )
        )
    return {name: convert for name, convert in found.items() if convert is not None}


def exact_row(values: Mapping[str, object], exact: Mapping[str, Convert]) -> dict[str, object]:
    """Apply the converters that `exact_columns` returned to a row."""
    return {name: exact[name](value) if name in exact else value for name, value in values.items()}


def _features(schema: arrow.Schema) -> Mapping[str, object]:
    written = (schema.metadata or {}).get(DATASETS_KEY)
    try:
        features = json.loads(written)["info"]["features"] if written else {}
    except (ValueError, KeyError, TypeError):
        return {}  # written by another tool or version; the columns are read without it
    return features if isinstance(features, dict) else {}


def _class_names(feature: Any) -> list[str]:
    is_label = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    names = feature.get("names") if is_label else None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _exact(kind: arrow.DataType, feature: Any) -> Convert | None:
    """Return the converter that keeps values of an Arrow type exact; None if they need no conversion."""
    import pyarrow.types as types

    if names := _class_names(feature):
        return lambda value: _class_name(value, names)
    if types.is_float32(kind) or types.is_float16(kind):
        return _shortest(16 if types.is_float16(kind) else 32)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _exact(kind.value_type, _element(feature))
        return None if inner is None else lambda value: value and [inner(one) for one in value]
    if types.is_struct(kind):
        parts = {
            part.name: _exact(part.type, feature.get(part.name) if isinstance(feature, dict) else None)
            for part in kind
        }
        exact = {name: convert for name, convert in parts.items() if convert is not None}
        return (lambda value: value and exact_row(value, exact)) if exact else None
    return None


def _element(feature: Any) -> Any:
    """Return the `datasets` feature of a list's elements; its form depends on the version of `datasets`."""
    if isinstance(feature, list):
        return feature[0] if feature else None
    return feature.get("feature") if isinstance(feature, dict) else None


def _class_name(value: Any, names: list[str]) -> Any:
    """Return the class name of a label; None for -1, which `datasets` writes if the label is missing."""
    if value == -1:
        return None
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


def _shortest(bits: int) -> Convert:
    """Return a converter from floats of this width to the shortest decimals that read back as the same float.

    Python's own float has 64 bits, which would turn the 32-bit 3.8 into 3.799999952316284.
    """
    import numpy

    width = numpy.float16 if bits == 16 else numpy.float32

    def shortest(value: float | None) -> WrittenNumber | None:
        # numpy finds the digits; Python formats them as for any other float: 1000001.0, not 1.000001e+06.
        return None if value is None else WrittenNumber(value, repr(float(str(width(value)))))

    return shortest
