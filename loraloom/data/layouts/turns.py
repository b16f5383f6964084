"""Conversion of a conversation's entries to turns: speaker, text, and whether an answer is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loraloom.data.layouts.exchange import MISSING, Field, Flaw, LayoutOptions, UnknownRoles, Values, is_empty
from loraloom.data.layouts.layout_notes import LayoutNotes
from loraloom.data.layouts.roles import ASSISTANT, SYSTEM, USER, folded, role_names
from loraloom.text.message import Message, joined

# Keys that mark whether an answer is learnt: OpenAI's, ms-swift's, Axolotl's two, XTuner's.
FLAGS = ("weight", "loss", "train", "training", "output_with_loss")
_CALLS = ("tool_calls", "function_call")
_TEXT_PARTS = ("text", "input_text", "output_text")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation.

    Args:
        speaker: system, user, assistant or ignored.
        content: the text.
        is_learnt: whether an answer is a target; otherwise it is context.
        only_calls: whether the turn has no text because it only calls a tool.
    """

    speaker: str
    content: Field
    is_learnt: bool = True
    only_calls: bool = False


@dataclass(frozen=True, slots=True)
class TurnReading:
    """The options for reading the turns of a conversation, and the notes on them.

    Args:
        roles: each known role, in lower case -> its speaker.
        marks: whether marks such as `weight: 0` apply, and turns that only call a tool are skipped.
        notes: receives notes on what the user should know about.
    """

    roles: Mapping[str, str]
    marks: bool
    notes: LayoutNotes

    @classmethod
    def of(cls, options: LayoutOptions, notes: LayoutNotes) -> TurnReading:
        """Take the settings for reading turns from a recipe's options."""
        return cls(role_names(options.roles), options.answer_weights, notes)


Entry = Callable[[str, Values, TurnReading], Iterator[Turn]]


def read_turn(who: str, text: str) -> Entry:
    """Build a reader for entries like {"role": "user", "content": …}, given the keys of role and text."""

    def turns(place: str, entry: Values, reading: TurnReading) -> Iterator[Turn]:
        role = entry.get(who, MISSING)
        if not isinstance(role, str):
            raise Flaw(Message("`{place}.{who}` must be the name of a role", place=place, who=who))
        speaker = reading.roles.get(folded(role))
        if speaker is None:
            raise UnknownRoles({role: f"{place}.{who}"})
        content = _content(f"{place}.{text}", entry.get(text, MISSING), reading.notes)
        read = [who, text]
        if speaker == ASSISTANT:
            read += FLAGS
            only_calls = is_empty(content.value) and any(entry.get(key) for key in _CALLS)
            yield Turn(speaker, content, is_learnt(place, entry, reading), reading.marks and only_calls)
        else:
            yield Turn(speaker, content)
        _count_unused(entry, read, reading.notes)

    return turns


def paired(question: str, answer: str) -> Entry:
    """Build a reader for entries like {"system": …, "input": …, "output": …}, given the last two keys."""

    def turns(place: str, entry: Values, reading: TurnReading) -> Iterator[Turn]:
        notes = reading.notes
        if entry.get("system") is not None:
            yield Turn(SYSTEM, _content(f"{place}.system", entry["system"], notes))
        yield Turn(USER, _content(f"{place}.{question}", entry.get(question, MISSING), notes))
        content = _content(f"{place}.{answer}", entry.get(answer, MISSING), notes)
        yield Turn(ASSISTANT, content, is_learnt(place, entry, reading))
        _count_unused(entry, ["system", question, answer, *FLAGS], notes)

    return turns


def is_learnt(place: str, entry: Values, reading: TurnReading) -> bool:
    """Return whether an answer is learnt, according to marks such as `weight: 0` and `loss: false`.

    Raises:
        Flaw: a mark is neither true nor false, or two marks contradict each other.
    """
    if not reading.marks:
        return True
    marks: dict[str, bool] = {}
    for key in FLAGS:
        value = entry.get(key)
        if value is None:
            continue
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise Flaw(
                Message("`{place}.{key}` must be 0 or 1, false or true", place=place, key=key),
                Message(
                    "An answer is either trained on or context; partial weights are not supported. "
                    "Set `data.answer_weights: false` to train on every answer, however it is "
                    "marked."
                ),
            )
        marks[key] = bool(value)
    if len(set(marks.values())) > 1:
        shown = joined(" and ", (f"`{key}: {str(mark).lower()}`" for key, mark in marks.items()))
        raise Flaw(f"`{place}` contains contradictory marks {shown}", "Keep the intended one.")
    return all(marks.values())


def _content(name: str, value: Any, notes: LayoutNotes) -> Field:
    """Read the text of a turn; if it is a list of typed parts, join the text parts, one per line."""
    if not isinstance(value, list) or not value or not all(_is_part(part) for part in value):
        return Field(name, value)
    texts = [part["text"] for part in value if part.get("type", "text") in _TEXT_PARTS]
    if len(texts) < len(value):
        notes.what[Message("parts of turns that are not text, such as images or audio (skipped)")] += len(
            value
        ) - len(texts)
    return Field(name, "\n".join(texts))


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not ("type" in part or "text" in part):
        return False
    return part.get("type", "text") not in _TEXT_PARTS or isinstance(part.get("text"), str)


def _count_unused(entry: Values, read: list[str], notes: LayoutNotes) -> None:
    for key, value in entry.items():
        # A table gives every turn the keys of all turns; a key without a value means nothing.
        if key not in read and value is not None and value != "" and value != [] and value != {}:
            notes.unused_keys[key] += 1
