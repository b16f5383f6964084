"""Conversations: rows with a list of turns; each answer and its question become an exchange.

{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}, …]}
{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}
{"conversation": [{"system": …, "input": …, "output": …}, …]}

An answer marked as context (`weight: 0`) is not an exchange, but is counted when answers are numbered. A turn
that only calls a tool is not an answer: the next answer still belongs to the question before it.
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
from loraloom.text.message import Message

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
    """Return the two known keys that a conversation's first entry has; None if this is not a conversation.

    They are the keys of role and text, or of question and answer. The entry may lack the key of the answer if
    the question is yet to be answered.
    """
    if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
        return None
    first = entries[0].keys()
    whole = next((keys for keys in ENTRIES if set(keys) <= first), None)
    return whole or next((keys for keys in _PAIRS if keys[0] in first), None)


def conversation_layout(column: str, keys: tuple[str, str]) -> Layout:
    """Build the layout of rows with a conversation in this column, whose entries have these two keys."""

    def exchanges(values: Values, options: LayoutOptions, notes: LayoutNotes) -> Iterator[Exchange]:
        entries = values.get(column, MISSING)
        if not isinstance(entries, list) or not entries:
            raise Flaw(Message("`{column}` must be a list with at least one turn", column=column))
        turns = turns_of(column, entries, ENTRIES[keys], TurnReading.of(options, notes))
        yield from _exchanges_of(turns, column, notes, to_answer=options.to_answer)

    return Layout(
        Message("{column} of {asked}/{answered}", column=column, asked=keys[0], answered=keys[1]),
        columns=(column,),
        asked=("input",),
        response=keys[1],
        exchanges=exchanges,
        holes=("system", "history", "input"),
        entry="conversation",
    )


def turns_of(column: str, entries: Sequence[Any], read: Entry, reading: TurnReading) -> list[Turn]:
    """Read the turns of a conversation, without those of ignored roles.

    Raises:
        UnknownRoles: the conversation has unknown roles; lists all of them.
        Flaw: an entry is not an object.
    """
    turns: list[Turn] = []
    unknown: dict[str, str] = {}
    for position, entry in enumerate(entries):
        place = f"{column}[{position}]"
        if not isinstance(entry, dict):
            raise Flaw(Message("`{place}` must be an object", place=place))
        try:
            turns += read(place, entry, reading)
        except UnknownRoles as roles:
            unknown |= {role: where for role, where in roles.places.items() if role not in unknown}
    if unknown:
        raise UnknownRoles(unknown)
    num_ignored = sum(turn.speaker == IGNORED for turn in turns)
    if num_ignored:
        reading.notes.what[Message("turns of roles that `data.roles` ignores (skipped)")] += num_ignored
    return [turn for turn in turns if turn.speaker != IGNORED]


def _exchanges_of(
    turns: Sequence[Turn], column: str, notes: LayoutNotes, *, to_answer: bool
) -> list[Exchange]:
    system: Field | None = None
    questions: list[Field] = []
    history: tuple[Field, ...] = ()
    exchanges: list[Exchange] = []
    as_context: Exchange | None = None
    num_answers = 0
    for turn in turns:
        if turn.speaker == SYSTEM:
            system = turn.content
        elif turn.speaker == USER:
            questions.append(turn.content)
        elif turn.only_calls:
            # The question stays open: the tool's output and the next answer both belong to it.
            notes.what[Message("answers without text that call a tool (not trained on)")] += 1
        elif to_answer and is_empty(turn.content.value):
            continue
        elif questions:
            num_answers += 1
            question = _one_question(questions)
            exchange = Exchange(question, turn.content, system=system, history=history, turn=num_answers)
            if turn.is_learnt:
                exchanges.append(exchange)
            else:
                as_context = dataclasses.replace(exchange, response=None)
                notes.what[
                    Message("answers marked as context by `weight`, `loss` or `train` (not trained on)")
                ] += 1
            history, questions = (*history, question, turn.content), []
        else:
            notes.what[Message("answers without a question before them (used only as context)")] += 1
            history = (*history, turn.content)
    if questions and to_answer:
        question = _one_question(questions)
        return [Exchange(question, None, system=system, history=history, turn=num_answers + 1)]
    if questions:
        notes.what[Message("questions without an answer at the end of a conversation (skipped)")] += 1
    if not num_answers and not any(turn.only_calls for turn in turns):
        raise Flaw(
            Message("`{column}` contains no question", column=column)
            if to_answer
            else Message("`{column}` contains no question with an answer", column=column)
        )
    if to_answer and not exchanges and as_context is not None:
        return [as_context]  # every row is answered, even without a reference
    return exchanges


def _one_question(questions: list[Field]) -> Field:
    if len(questions) == 1:
        return questions[0]
    bad = next((content for content in questions if not isinstance(content.value, str)), None)
    return bad or dataclasses.replace(questions[0], value="\n".join(content.value for content in questions))


def conversation_of_any_column(values: Values) -> Layout | None:
    """Recognise conversations in a column of any name but `history`, unless several columns have them.

    Their turns must have the keys `role` and `content`, or `from` and `value`.
    """
    columns = [(column, keys_of_turns(entries)) for column, entries in values.items() if column != "history"]
    found = [(column, keys) for column, keys in columns if keys is not None and keys in _SPOKEN[:2]]
    return conversation_layout(*found[0]) if len(found) == 1 else None


def conversation(column: str) -> Recogniser:
    """Build a recogniser for conversations in this column, with any of the known keys of turns."""
    layouts = {keys: conversation_layout(column, keys) for keys in ENTRIES}

    def recognise(values: Values) -> Layout | None:
        keys = keys_of_turns(values.get(column))
        return None if keys is None else layouts[keys]

    return recognise
