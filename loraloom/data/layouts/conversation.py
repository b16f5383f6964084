"""Conversations: a row is a list of turns, and each of its answers is an exchange.

{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}, …]}
{"conversations": [{"from": "human", "value": …}, {"from": "gpt", "value": …}, …]}
{"conversation": [{"system": …, "input": …, "output": …}, …]}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from loraloom.data.layouts.exchange import MISSING, Exchange, Field, Flaw, Layout, Recogniser, Values


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one entry of a conversation says, and as whom: system, user or assistant."""

    speaker: str
    said: Field


_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}


def _spoken(who: str, text: str) -> Callable[[str, Values], Iterator[_Turn]]:
    """Entries like {"role": "user", "content": …}."""

    def turns(place: str, entry: Values) -> Iterator[_Turn]:
        speaker = entry.get(who)
        if not isinstance(speaker, str) or speaker not in _SPEAKERS:
            known = ", ".join(_SPEAKERS)
            raise Flaw(f"`{place}.{who}` names no speaker known here (known: {known})")
        yield _Turn(_SPEAKERS[speaker], Field(f"{place}.{text}", entry.get(text, MISSING)))

    return turns


def _paired(question: str, answer: str) -> Callable[[str, Values], Iterator[_Turn]]:
    """Entries like {"system": …, "input": …, "output": …}."""

    def turns(place: str, entry: Values) -> Iterator[_Turn]:
        if entry.get("system") is not None:
            yield _Turn("system", Field(f"{place}.system", entry["system"]))
        yield _Turn("user", Field(f"{place}.{question}", entry.get(question, MISSING)))
        yield _Turn("assistant", Field(f"{place}.{answer}", entry.get(answer, MISSING)))

    return turns


_ENTRIES: dict[tuple[str, str], Callable[[str, Values], Iterator[_Turn]]] = {
    ("role", "content"): _spoken("role", "content"),
    ("from", "value"): _spoken("from", "value"),
    ("input", "output"): _paired("input", "output"),
    ("human", "assistant"): _paired("human", "assistant"),
}


def conversation_layout(column: str, keys: tuple[str, str]) -> Layout:
    """A row is a conversation; each of its answers is an exchange."""

    def exchanges(values: Values, told: Counter[str]) -> Iterator[Exchange]:
        entries = values.get(column, MISSING)
        if not isinstance(entries, list) or not entries:
            raise Flaw(f"`{column}` should be a list of turns, with at least one")
        yield from _exchanges_of(_turns(column, entries, _ENTRIES[keys]), column, told)

    return Layout(
        f"{column} of {keys[0]}/{keys[1]}",
        columns=(column,),
        asked=("input",),
        response=keys[1],
        exchanges=exchanges,
        holes=("system", "history", "input"),
    )


def _turns(
    column: str, entries: Sequence[Any], read: Callable[[str, Values], Iterator[_Turn]]
) -> Iterator[_Turn]:
    for position, entry in enumerate(entries):
        place = f"{column}[{position}]"
        if not isinstance(entry, dict):
            raise Flaw(f"`{place}` should be an object")
        yield from read(place, entry)


def _exchanges_of(turns: Iterator[_Turn], column: str, told: Counter[str]) -> Iterator[Exchange]:
    system: Field | None = None
    asked: list[Field] = []
    history: tuple[Field, ...] = ()
    num_answers = 0
    for turn in turns:
        if turn.speaker == "system":
            system = turn.said
        elif turn.speaker == "user":
            asked.append(turn.said)
        elif asked:
            num_answers += 1
            question = _one_question(asked)
            yield Exchange(question, turn.said, system=system, history=history, turn=num_answers)
            history, asked = (*history, question, turn.said), []
        else:
            told["answers with no question before them, kept only as context"] += 1
            history = (*history, turn.said)
    if asked:
        told["questions at the end of a conversation, with no answer, left out"] += 1
    if not num_answers:
        raise Flaw(f"`{column}` holds no question that is answered")


def _one_question(asked: list[Field]) -> Field:
    if len(asked) == 1:
        return asked[0]
    bad = next((said for said in asked if not isinstance(said.value, str)), None)
    return bad or Field(asked[0].name, "\n".join(said.value for said in asked))


def conversation(column: str) -> Recogniser:
    """The recogniser of conversations in a column, whichever way their turns are written."""
    layouts = {keys: conversation_layout(column, keys) for keys in _ENTRIES}

    def recognise(values: Values) -> Layout | None:
        entries = values.get(column)
        if not isinstance(entries, list) or not entries or not isinstance(entries[0], dict):
            return None
        return next((layout for keys, layout in layouts.items() if set(keys) <= entries[0].keys()), None)

    return recognise
