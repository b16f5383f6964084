"""Arrangements of rows in one JSON object: a list under a key, columns, or row labels.

{"version": 1, "data": [{…}, {…}]}                  ─▶ list `data`
{"train": [{…}], "validation": [{…}]}               ─▶ list `train`
{"instruction": [a, b], "response": [c, d]}         ─▶ columns
{"instruction": {"0": a}, "response": {"0": c}}     ─▶ columns (pandas' default)
{"0": {"instruction": a, "response": c}, "1": {…}}  ─▶ labels (pandas' orient="index")
{"columns": […], "index": […], "data": [[…], […]]}  ─▶ split (pandas' orient="split")
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loraloom.data.formats.json_list import ONE_LIST
from loraloom.data.formats.row import shown_names
from loraloom.errors import DataError
from loraloom.text.message import Message, joined
from loraloom.text.units import counted
from loraloom.text.visible import quoted

# A list under one of these keys is the conversation of a single row, not a file's rows.
CONVERSATION_COLUMNS = ("conversation", "conversations", "messages")
Kind = Literal["rows", "lists", "values", "empty", "object", "scalar"]
_LISTS: tuple[Kind, ...] = ("rows", "lists", "values", "empty")
_NUMBER = re.compile(r"-?\d+")
_TRAIN = ("train", "training")
_SPLIT = {"columns", "index", "data"}
# An object with this many times more members than keys in each, all with the same keys: rows under labels.
_ROWS_A_KEY = 10
_RECORDS = Message('In pandas: `df.to_json(FILE, orient="records", force_ascii=False)`.')


@dataclass(frozen=True, slots=True)
class Member:
    """A key of the object and a summary of its value.

    Args:
        key: the key.
        kind: of a list, by its first element: `rows` (objects), `lists`, `values` or `empty`; of any other
            value: `object` or `scalar`.
        length: number of elements if the value is a list, or of keys if it is an object.
        inner: the keys of the value if it is an object.
    """

    key: str
    kind: Kind
    length: int = 0
    inner: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The arrangement of the rows in an object.

    Args:
        kind: as named at the top of this module; `stream` for objects one after another.
        key: key of the list; "" for kinds other than `list`.
        note: what the user should know about the arrangement, worded to follow the file's name.
    """

    kind: Literal["list", "columns", "labels", "split", "stream"]
    note: str
    key: str = ""


STREAM = Arrangement(
    "stream", Message("contains consecutive JSON objects over several lines each, and was read in that form")
)


def member_of(key: str, value: Any) -> Member:
    """Summarize a key whose value has already been read."""
    if isinstance(value, dict):
        return Member(key, "object", len(value), frozenset(value))
    if not isinstance(value, list):
        return Member(key, "scalar")
    return Member(key, kind_of_list(value[0] if value else None, is_empty=not value), len(value))


def kind_of_list(first: Any, *, is_empty: bool) -> Kind:
    """Return the kind of a list, by its first element."""
    if is_empty:
        return "empty"
    return "rows" if isinstance(first, dict) else "lists" if isinstance(first, list) else "values"


def arrangement(members: Sequence[Member], columns: Collection[str]) -> Arrangement | None:
    """Determine how the rows are arranged; None if no arrangement fits, or more than one.

    Args:
        members: the object's keys with summaries of their values, in order.
        columns: the recipe's column names, used to tell columns from row labels.
    """
    if any(member.key in CONVERSATION_COLUMNS and member.kind == "rows" for member in members):
        return None  # a single row
    by_key = {member.key: member for member in members}
    if _is_split(by_key):
        return Arrangement("split", Message('was read as a table that pandas wrote with orient="split"'))
    if members and all(member.kind == "object" for member in members):
        return _of_objects(members, columns)
    lists = [member for member in members if member.kind in _LISTS]
    tables = [member for member in lists if member.kind == "rows"]
    is_even = len(lists) == len(members) and len({member.length for member in lists}) == 1
    if is_even and lists[0].kind in ("values", "lists"):
        return Arrangement("columns", _columns_note(members))
    if not tables:
        empty = [member for member in lists if member.kind == "empty"]
        return _list_in(empty[0], []) if lists and lists[0].kind == "empty" else None
    if lists[0].kind not in ("rows", "empty"):
        return None
    named = [table for table in tables if table.key.lower() in _TRAIN] if len(tables) > 1 else tables
    return _list_in(named[0], tables) if len(named) == 1 else None


def refusal(members: Sequence[Member], where: str) -> DataError:
    """Return the error for an object in which no rows are found, with what it contains and how to fix it."""
    lists = [member for member in members if member.kind in _LISTS]
    tables = [member for member in lists if member.kind == "rows" and member.key not in CONVERSATION_COLUMNS]
    first = next((member for member in lists if member.key not in CONVERSATION_COLUMNS), None)
    if len(tables) > 1:
        what: str = Message(
            "contains one object with lists {tables}; ",
            tables=joined(" and ", (quoted(table.key) for table in tables)),
        )
        return DataError(
            what + Message("exactly one list is needed"),
            where=where,
            fix=Message("Save each list as a separate file."),
        )
    if len(lists) == len(members) > 1 and not tables and all(member.length for member in lists):
        lengths = ", ".join(f"{quoted(member.key)} {member.length}" for member in lists[:12])
        what = Message("contains columns of different lengths: {lengths}", lengths=lengths)
        return DataError(
            what,
            where=where,
            fix=Message("Give each row a value in every column. {records}", records=_RECORDS),
        )
    if members and all(member.kind == "object" for member in members):
        what = Message("contains one object of objects, whose rows and columns cannot be told apart")
        return DataError(
            what,
            where=where,
            fix=Message("Set `data.columns`, or write a list of rows. {records}", records=_RECORDS),
        )
    if first is not None and first.kind != "rows":
        what = Message(
            "contains one object without a list of rows: {key} is not a list of objects",
            key=quoted(first.key),
        )
        return DataError(what, where=where, fix=ONE_LIST)
    what = Message("contains one object without a list of rows; one list is needed")
    return DataError(what, where=where, fix=ONE_LIST)


def rows_of_columns(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turn columns, which are lists or objects with a value for each row label, into rows.

    Raises:
        ValueError: a column does not have the same rows as the first one; the message names the column.
    """
    first, *_ = columns.values()
    labels = list(first) if isinstance(first, dict) else range(len(first))
    for name, column in columns.items():
        same = type(column) is type(first) and len(column) == len(first)
        if not same or (isinstance(column, dict) and column.keys() != first.keys()):
            raise ValueError(
                Message("the column {name} does not have the same rows as the first one", name=quoted(name))
            )
    return [{name: column[label] for name, column in columns.items()} for label in labels]


def _is_split(by_key: Mapping[str, Member]) -> bool:
    if not {"columns", "data"} <= by_key.keys() <= _SPLIT:
        return False
    return by_key["columns"].kind == "values" and by_key["data"].kind in ("lists", "empty")


def _of_objects(members: Sequence[Member], columns: Collection[str]) -> Arrangement | None:
    outer, inner = {member.key for member in members}, members[0].inner
    same = all(member.inner == inner for member in members)
    outer_numbered, inner_numbered = _numbered(outer), _numbered(inner)
    named = set(columns)
    as_columns = Arrangement("columns", _columns_note(members))
    as_labels = Arrangement(
        "labels",
        Message("its {num_members} keys were read as row labels and ignored", num_members=len(members)),
    )
    if outer_numbered != inner_numbered:
        return as_labels if outer_numbered else as_columns if same else None
    if len(members) < 2 or outer_numbered or not same:
        return None
    if named and (named <= outer) != (named <= inner):
        return as_columns if named <= outer else as_labels
    enough = len(members) >= _ROWS_A_KEY * len(inner) and len(inner) > 1
    return as_labels if enough else None


def _numbered(keys: Collection[str]) -> bool:
    return bool(keys) and all(_NUMBER.fullmatch(key) for key in keys)


def _columns_note(members: Sequence[Member]) -> str:
    return Message(
        "was read as a table of columns: {shown_names}",
        shown_names=shown_names([member.key for member in members]),
    )


def _list_in(chosen: Member, tables: Sequence[Member]) -> Arrangement:
    note = Message("the rows were read from the list {key}", key=quoted(chosen.key))
    others = [
        Message("{key} ({rows})", key=quoted(table.key), rows=counted(table.length, "row"))
        for table in tables
        if table is not chosen
    ]
    if others:
        note = Message(
            "{note}; not read: {others} (to use one, for example as `data.eval`, save it as a separate file)",
            others=joined(", ", others),
            note=note,
        )
    return Arrangement("list", note, chosen.key)
