"""Messages for people, as data: a template, which is the id in a catalogue, and the values in it.

    >>> message = Message("{path} has {num_rows:,} rows without an answer", path="a.csv", num_rows=1200)
    >>> message
    'a.csv has 1,200 rows without an answer'
    >>> message.template, dict(message.values)
    ('{path} has {num_rows:,} rows without an answer', {'path': 'a.csv', 'num_rows': 1200})

A message is a `str`, its text in English, so it can be printed, compared and stored like any text. As in
gettext, the English template is the id. The JSON files of a run store `message.to_data()`, and
`text/catalogue.py` renders messages in another language.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from loraloom.text.template import fill

Value = str | int | float | bool | None
"""A value in a message: a string, number, boolean or null of JSON, or another message."""

DEEPEST = 20  # maximum depth of messages within messages in a file


class Catalogue(Protocol):
    """Translations of templates, such as `gettext.NullTranslations` and its subclasses."""

    def gettext(self, message: str, /) -> str:
        """Translate a template; return it unchanged if there is no translation."""

    def ngettext(self, msgid1: str, msgid2: str, n: int, /) -> str:
        """Translate a template for this number of things."""


class Message(str):
    """A text for people that knows its template and the values in it.

    Args:
        template: English text with `{name}` for each value; literal braces are doubled.
        values: values by name. Numbers, booleans, None and messages are kept; others become text.

    Raises:
        ValueError: the template has an invalid placeholder, or one without a value.
    """

    template: str
    plural: (
        str  # the template for several things, whose number is the value `count`; "" if nothing is counted
    )
    values: Mapping[str, Value]

    def __new__(cls, template: str, /, **values: object) -> Message:  # noqa: D102
        return cls._of(template, "", values)

    @classmethod
    def counting(cls, singular: str, plural: str, /, *, count: int, **values: object) -> Message:
        """Return a message whose template depends on the number of things.

        >>> Message.counting("{count:,} row", "{count:,} rows", count=1)
        '1 row'
        """
        return cls._of(singular, plural, {"count": count, **values})

    @classmethod
    def _of(cls, template: str, plural: str, values: Mapping[str, object]) -> Message:
        chosen = plural if plural and values["count"] != 1 else template
        plain = {name: _plain(value) for name, value in values.items()}
        message = super().__new__(cls, fill(chosen, plain))
        message.template, message.plural, message.values = template, plural, plain
        return message

    def rendered(self, catalogue: Catalogue) -> str:
        """Render the message, and every message in it, through a catalogue.

        A translation with an invalid placeholder, or one without a value, is replaced by the English text.
        """
        values = {
            name: value.rendered(catalogue) if isinstance(value, Message) else value
            for name, value in self.values.items()
        }
        try:
            return fill(self._translated(catalogue), values, catalogue.gettext(FULL_STOP.template))
        except ValueError:
            return fill(self._in_english, values)

    @property
    def _in_english(self) -> str:
        return self.plural if self.plural and self.values["count"] != 1 else self.template

    def _translated(self, catalogue: Catalogue) -> str:
        count = self.values.get("count")
        if self.plural and isinstance(count, int):
            return catalogue.ngettext(self.template, self.plural, count)
        return catalogue.gettext(self.template)

    def replaced(self, **values: object) -> Message:
        """Return the message with other values for some of its placeholders."""
        return self._of(self.template, self.plural, {**self.values, **values})

    def mapped(self, change: Callable[[str], str]) -> Message:
        """Return the message with `change` applied to each text among its values, also in nested messages."""
        return self._of(
            self.template, self.plural, {name: mapped(v, change) for name, v in self.values.items()}
        )

    def to_data(self) -> dict[str, object]:
        """Return the message as a JSON object: `{"id": template, "values": {…}}`."""
        data: dict[str, object] = {"id": self.template}
        if self.plural:
            data["plural"] = self.plural
        if self.values:
            data["values"] = {name: _value_to_data(value) for name, value in self.values.items()}
        return data

    def strip(self, chars: str | None = None, /) -> str:
        """Return the stripped text; the message object itself if there is nothing to strip."""
        text = super().strip(chars)
        return self if text == self else text

    def __add__(self, other: str) -> Message:
        return joined("", (self, other))

    def __radd__(self, other: str) -> Message:
        return joined("", (other, self))

    def __copy__(self) -> Message:
        return self

    def __deepcopy__(self, memo: object) -> Message:
        return self

    def __reduce__(self) -> tuple[Callable[..., str], tuple[object, ...]]:
        return from_data, (self.to_data(),)


FULL_STOP = Message(".")


class JoinedMessage(Message):
    """Several messages in a row, with a separator between them. Use `joined` to make one."""

    parts: Sequence[str]

    @classmethod
    def of(cls, separator: str, parts: Sequence[str]) -> JoinedMessage:
        """Join parts; a separator with words, such as " and ", is translated like a message."""
        message = str.__new__(cls, separator.join(map(str, parts)))
        message.template, message.plural, message.values = (
            separator.replace("{", "{{").replace("}", "}}"),
            "",
            {},
        )
        message.parts = tuple(parts)
        return message

    def rendered(self, catalogue: Catalogue) -> str:
        """Render each part and the separator through a catalogue."""
        separator = fill(self.template, {})
        if separator:  # gettext("") is the header of a catalogue
            separator = Message(self.template).rendered(catalogue)
        parts = (part.rendered(catalogue) if isinstance(part, Message) else part for part in self.parts)
        return separator.join(parts)

    def mapped(self, change: Callable[[str], str]) -> Message:
        """Return the message with `change` applied to each of its parts, also in nested messages."""
        return self.of(fill(self.template, {}), [mapped(part, change) for part in self.parts])

    def to_data(self) -> dict[str, object]:
        """Return the message as a JSON object: `{"joined": [part, …], "by": separator}`."""
        return {"joined": [to_data(part) for part in self.parts], "by": fill(self.template, {})}


def joined(separator: str, parts: Iterable[str]) -> Message:
    """Join texts as `separator.join` does; parts that are messages can still be translated afterwards.

    >>> joined("; ", ["1 row dropped", "2 rows cut"])
    '1 row dropped; 2 rows cut'
    """
    kept = tuple(parts)
    if len(kept) == 1 and isinstance(kept[0], Message):
        return kept[0]
    return JoinedMessage.of(separator, kept)


def marked(template: str) -> str:
    """Mark a template for translation and return it unchanged; the caller makes a `Message` of it later."""
    return template


def said_by(error: Any) -> str:
    """Return the message that an exception was raised with, or else its text."""
    if hasattr(error, "as_message"):
        message: str = error.as_message()
        return message
    args: Sequence[object] = getattr(error, "args", ())
    return args[0] if args and isinstance(args[0], Message) else str(error)


def mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Change a text, or the texts among a message's values; return anything else unchanged."""
    if isinstance(value, Message):
        return value.mapped(change)
    return change(value) if isinstance(value, str) else value


def to_data(value: object) -> object:
    """Convert a value to JSON data, with every message as an object.

    Args:
        value: a message or plain value, or dicts, lists and tuples of these.
    """
    if isinstance(value, Message):
        return value.to_data()
    if isinstance(value, Mapping):
        return {key: to_data(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_data(inner) for inner in value]
    return value


def _value_to_data(value: Value) -> object:
    # JSON has no infinities; `fill` reads them as numbers.
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else to_data(value)


def from_data(data: object, depth: int = 0) -> str:
    """Restore the message from an object made by `to_data`; return a string, as in old files, unchanged.

    Raises:
        ValueError: the data is neither such an object nor a string.
    """
    if isinstance(data, str):
        return data
    if not isinstance(data, Mapping) or depth > DEEPEST:
        raise ValueError("a text or a message is needed")
    if isinstance(data.get("joined"), list) and isinstance(data.get("by"), str):
        return joined(data["by"], [from_data(part, depth + 1) for part in data["joined"]])
    template, plural, values = data.get("id"), data.get("plural", ""), data.get("values", {})
    if not isinstance(template, str) or not isinstance(plural, str) or not isinstance(values, Mapping):
        raise ValueError("a message has an id and values")
    if plural and not isinstance(values.get("count"), int):
        raise ValueError("a message with a plural has a count")
    of_values = {
        name: from_data(value, depth + 1) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if isinstance(value, Mapping | str | int | float | None)
    }
    return Message._of(template, plural, of_values)


def _plain(value: object) -> Value:
    """Convert a value to a type that JSON can store and restore unchanged; other objects become text."""
    if value is None or type(value) in (str, int, float, bool) or isinstance(value, Message):
        return value  # type: ignore[return-value]
    if isinstance(value, Exception) or hasattr(value, "as_message"):
        return said_by(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return f"{value}"
