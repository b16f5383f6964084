"""Context columns besides the question: `system` and `history`, as in LLaMA-Factory.

{"system": …, "history": [[question, answer], …], "instruction": …, "output": …}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from loraloom.data.layouts.conversation import ENTRIES, keys_of_turns, turns_of
from loraloom.data.layouts.exchange import Exchange, Field, Flaw, Layout, LayoutOptions, Values
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.turns import TurnReading
from loraloom.text.message import Message, joined

SYSTEM, HISTORY = "system", "history"


def with_context(layout: Layout, found: Sequence[str], options: LayoutOptions) -> Layout:
    """Extend a layout so that it also reads the columns with the system text and the earlier turns.

    Args:
        layout: the layout of the rows, which does not read these columns.
        found: columns of the file.
        options: if `columns` is set, the system text and the earlier turns are read only from the columns
            that it assigns to `system` and `history`.
    """
    if options.columns:
        names = {role: options.columns[role] for role in (SYSTEM, HISTORY) if role in options.columns}
    elif options.context_columns:
        is_conversation = layout.entry == "conversation"
        roles = (SYSTEM,) if is_conversation else (SYSTEM, HISTORY)
        names = {role: role for role in roles if role in found and role not in layout.columns}
    else:
        names = {}
    if not names:
        return layout

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        for exchange in layout.exchanges(values, options, notes):
            yield _in_context(exchange, names, values, options, notes)

    columns = tuple(names.values())
    return dataclasses.replace(
        layout,
        name=Message("{layout} with {columns}", layout=layout.name, columns=joined(" and ", columns)),
        columns=(*layout.columns, *columns),
        exchanges=exchanges,
        context=columns,
    )


def _in_context(
    exchange: Exchange, names: dict[str, str], values: Values, options: LayoutOptions, notes: LayoutNotes
) -> Exchange:
    if SYSTEM in names and exchange.system is None and values.get(names[SYSTEM]) is not None:
        system = Field(names[SYSTEM], values[names[SYSTEM]])
        exchange = dataclasses.replace(exchange, system=system)
    if HISTORY in names:
        history = _history(names[HISTORY], values.get(names[HISTORY]), options, notes)
        exchange = dataclasses.replace(exchange, history=history, history_is_given=True)
    return exchange


def _history(name: str, value: Any, options: LayoutOptions, notes: LayoutNotes) -> tuple[Field, ...]:
    """Read the earlier turns from a cell with pairs, turns with roles, or plain text."""
    value = _parsed(value)
    if value is None or value == [] or value == "":
        return ()
    if isinstance(value, str):
        return (Field(name, value),)
    keys = keys_of_turns(value)
    if keys is not None:
        turns = turns_of(name, value, ENTRIES[keys], TurnReading.of(options, notes))
        return tuple(turn.content for turn in turns)
    if isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        return tuple(
            Field(f"{name}[{position}][{side}]", pair[side])
            for position, pair in enumerate(value)
            for side in (0, 1)
        )
    raise Flaw(
        Message("`{name}` must be a list of [question, answer] pairs", name=name),
        Message(
            "Write the earlier turns this way, or set `data.context_columns: false` to ignore the column."
        ),
    )


def _parsed(value: Any) -> Any:
    """Parse a cell that contains the JSON text of a list of lists; return any other value unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("[["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
