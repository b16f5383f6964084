"""Conversations: a row is a list of turns, and each of its answers is an exchange.

{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}, …]}
{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}
{"conversation": [{"system": …, "input": …, "output": …}, …]}

An answer that is context (`weight: 0`, or a call of a tool alone) is no exchange, but keeps its number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from loraloom.data.layouts.exchange import (
    MISSING,
    Exchange,
    Field,
    Flaw,
    Layout,
    LayoutOptions,
    Recogniser,
    UnknownRoles,
    Values,
    is_empty,
)
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.roles import IGNORED, SYSTEM, USER
from loraloom.data.layouts.turns import Entry, Turn, TurnReading, paired, read_turn

_PAIRS = (
    ("input", "output"),
    ("human", "assistant"),
    ("user", "assistant"),
    ("query", "response"),
    ("question", "answer"),
    ("instruction", "output"),
    ("prompt", "response"),
)
_SPOKEN = (
    ("role", "content"),
    ("from", "value"),
    ("role", "value"),
    ("role", "text"),
    ("from", "content"),
    ("from", "text"),
    ("speaker", "text"),
    ("speaker", "content"),
)
ENTRIES: dict[tuple[str, str], Entry] = {keys: read_turn(*keys) for keys in _SPOKEN[:2]}
ENTRIES |= {keys: paired(*keys) for keys in _PAIRS} | {keys: read_turn(*keys) for keys in _SPOKEN[2:]}


def keys_of_turns(entries: Any) -> tuple[str, str] | None:
    """How the turns of a conversation are written, from its first; None if it is none.

    A pair without its answer is one too: it is a question that is still to be answered.
    """
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        return None
    first = entries[0].keys()
    whole = next((keys for keys in ENTRIES if set(keys) <= first), None)
    return whole or next((keys for keys in _PAIRS if keys[0] in first), None)


def conversation_layout(column: str, keys: tuple[str, str]) -> Layout:
    """A row is a conversation; each of its answers is an exchange."""

    def exchanges(values: Values, options: LayoutOptions, told: LayoutNotes) -> Iterator[Exchange]:
        entries = values.get(column, MISSING)
        if not isinstance(entries, list) or not entries:
            raise Flaw(f"`{column}` should be a list of turns, with at least one")
        turns = turns_of(column, entries, ENTRIES[keys], TurnReading.of(options, told))
        yield from _exchanges_of(turns, column, told, to_answer=options.to_answer)

    return Layout(
        f"{column} of {keys[0]}/{keys[1]}",
        columns=(column,),
        asked=("input",),
        response=keys[1],
        exchanges=exchanges,
        holes=("system", "history", "input"),
        entry="conversation",
    )


def turns_of(column: str, entries: Sequence[Any], read: Entry, reading: TurnReading) -> list[Turn]:
    """The turns of a conversation, without those of ignored roles.

    Raises:
        UnknownRoles: with all roles of it that are not known.
        Flaw: an entry is no object.
    """
    turns: list[Turn] = []
    unknown: dict[str, str] = {}
    for position, entry in enumerate(entries):
        place = f"{column}[{position}]"
        if not isinstance(entry, dict):
            raise Flaw(f"`{place}` should be an object")
        try:
            turns += read(place, entry, reading)
        except UnknownRoles as roles:
            unknown |= {role: where for role, where in roles.places.items() if role not in unknown}
    if unknown:
        raise UnknownRoles(unknown)
    num_ignored = sum(turn.speaker == IGNORED for turn in turns)
    if num_ignored:
        reading.told.what["turns of roles that data.roles ignores, left out"] += num_ignored
    return [turn for turn in turns if turn.speaker != IGNORED]


def _exchanges_of(
    turns: Sequence[Turn], column: str, told: LayoutNotes, *, to_answer: bool
) -> list[Exchange]:
    system: Field | None = None
    asked: list[Field] = []
    history: tuple[Field, ...] = ()
    exchanges: list[Exchange] = []
    as_context: Exchange | None = None
    num_answers = 0
    for turn in turns:
        if turn.speaker == SYSTEM:
            system = turn.said
        elif turn.speaker == USER:
            asked.append(turn.said)
        elif turn.only_calls:
            # The question stays open: what the tool returns belongs to it, and so does the next answer.
            told.what["answers without text that call a tool, not learnt"] += 1
        elif to_answer and is_empty(turn.said.value):
            continue
        elif asked:
            num_answers += 1
            question = _one_question(asked)
            exchange = Exchange(question, turn.said, system=system, history=history, turn=num_answers)
            if turn.is_learnt:
                exchanges.append(exchange)
            else:
                as_context = dataclasses.replace(exchange, response=None)
                told.what["answers marked as context (by weight, loss or train), not learnt"] += 1
            history, asked = (*history, question, turn.said), []
        else:
            told.what["answers with no question before them, kept only as context"] += 1
            history = (*history, turn.said)
    if asked and to_answer:
        question = _one_question(asked)
        return [Exchange(question, None, system=system, history=history, turn=num_answers + 1)]
    if asked:
        told.what["questions at the end of a conversation, with no answer, left out"] += 1
    if not num_answers and not any(turn.only_calls for turn in turns):
        raise Flaw(f"`{column}` holds no question" + ("" if to_answer else " that is answered"))
    if to_answer and not exchanges and as_context is not None:
        return [as_context]  # every row is answered, if without a reference
    return exchanges


def _one_question(asked: list[Field]) -> Field:
    if len(asked) == 1:
        return asked[0]
    bad = next((said for said in asked if not isinstance(said.value, str)), None)
    return bad or dataclasses.replace(asked[0], value="\n".join(said.value for said in asked))


def conversation_of_any_column(values: Values) -> Layout | None:
    """The recogniser of conversations in a column of another name; not of rows with two such columns."""
    columns = [(column, keys_of_turns(entries)) for column, entries in values.items() if column != "history"]
    found = [(column, keys) for column, keys in columns if keys is not None and keys in _SPOKEN[:2]]
    return conversation_layout(*found[0]) if len(found) == 1 else None


def conversation(column: str) -> Recogniser:
    """The recogniser of conversations in a column, whichever way their turns are written."""
    layouts = {keys: conversation_layout(column, keys) for keys in ENTRIES}

    def recognise(values: Values) -> Layout | None:
        keys = keys_of_turns(values.get(column))
        return None if keys is None else layouts[keys]

    return recognise
