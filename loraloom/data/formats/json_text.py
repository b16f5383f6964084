"""Strict JSON parsing of text that is loaded piece by piece.

`json`'s own C scanner does the work. This module also finds duplicate keys and numbers that cannot be
represented, limits nesting, and loads more text if a value continues past the buffer.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from loraloom.data.formats.cells import WrittenNumber
from loraloom.data.formats.row import location
from loraloom.errors import DataError, Problem
from loraloom.text.message import Message
from loraloom.text.visible import quoted

MAX_DEPTH = 100
MAX_INT_DIGITS = 4_300  # Python's own limit for converting text to int (CVE-2020-10735)
WHITESPACE = " \t\n\r"

_SPACE = re.compile(f"[{WHITESPACE}]*")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{\]}]', re.DOTALL)
# The longest token that the scanner rejects at its beginning: -Infinity, or half a surrogate pair.
_TOKEN_CHARS = 16
_HINTS = {
    "Expecting property name": Message(
        "Keys must be in double quotes, and no comma may follow the last value."
    ),
    "Illegal trailing comma": Message("No comma may follow the last value."),
    "Expecting value": Message("Text must be in double quotes, and no comma may follow the last value."),
    "Invalid control character": Message("Inside text, write a line break as \\n and a tab as \\t."),
    "Invalid \\escape": Message("Inside text, write a backslash as \\\\."),
    "Invalid \\uXXXX escape": Message("\\u must be followed by four hexadecimal digits."),
    "Unterminated string": Message("A closing double quote is missing."),
}


class TooDeepError(Exception):
    """A value is nested deeper than `MAX_DEPTH`."""


class StrictDecoder:
    """Decoder of one JSON value at a time that records the flaws inside a well-formed value.

    After `decode`, `flaws` lists keys that appear twice and numbers that are out of range. NaN and
    Infinity are decoded as floats, because whether they matter depends on the column.

    Args:
        keep_written: whether to decode numbers that Python may spell differently (decimals, -0) as
            `WrittenNumber`.
    """

    def __init__(self, *, keep_written: bool = True) -> None:
        self.flaws: list[str] = []
        self._keep_written = keep_written
        self._scanner = json.JSONDecoder(
            object_pairs_hook=self._object, parse_int=self._int, parse_float=self._float
        )

    def decode(self, text: str, start: int = 0) -> tuple[Any, int]:
        """Decode the value that begins at `start`; return it and where it ends.

        Raises:
            json.JSONDecodeError: the value is not JSON, or continues past the end of `text`.
            TooDeepError: the value is nested deeper than `MAX_DEPTH`.
        """
        self.flaws.clear()
        try:
            value, end = self._scanner.raw_decode(text, start)
        except RecursionError:
            raise TooDeepError from None
        # Counting brackets is fast and nearly always enough; only then is their nesting computed.
        num_brackets = text.count("{", start, end) + text.count("[", start, end)
        if num_brackets > MAX_DEPTH and _depth(text, start, end) > MAX_DEPTH:
            raise TooDeepError
        return value, end

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        values = dict(pairs)
        if len(values) < len(pairs):
            times = Counter(key for key, _ in pairs)
            self.flaws += [
                Message("has the key {key} {count} times in one object", key=quoted(key), count=count)
                for key, count in times.items()
                if count > 1
            ]
        return values

    def _int(self, digits: str) -> int | float:
        if len(digits) > MAX_INT_DIGITS:
            self.flaws.append(
                Message(
                    "contains a number of {num_digits} digits; at most {limit} can be read",
                    num_digits=len(digits),
                    limit=MAX_INT_DIGITS,
                )
            )
            return 0
        if digits == "-0" and self._keep_written:
            return WrittenNumber(-0.0, digits)
        return int(digits)

    def _float(self, digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            self.flaws.append(Message("contains a number that is too large to be read"))
        return WrittenNumber(value, digits) if self._keep_written else value


class JsonCursor:
    """A position in a JSON text that may be larger than memory.

    Args:
        chunks: the text, in pieces.
        shown_as: the file's name in messages.
        keep_written: as in `StrictDecoder`.
    """

    def __init__(self, chunks: Iterator[str], shown_as: str, *, keep_written: bool = True) -> None:
        self.line = 1
        self._chunks = chunks
        self._shown_as = shown_as
        self._decoder = StrictDecoder(keep_written=keep_written)
        self._buffer = ""
        self._position = 0
        self._line_start = 0  # start of the current line relative to the buffer; may be negative
        self._at_end = False

    @property
    def flaws(self) -> list[str]:
        """The flaws inside the value that was read last."""
        return list(self._decoder.flaws)

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            end = _SPACE.match(self._buffer, self._position).end()  # type: ignore[union-attr]
            self._advance(end)
            if end < len(self._buffer):
                return self._buffer[end]
            if self._at_end:
                return ""
            self._fill(1)

    def skip(self) -> None:
        """Skip the character that `peek` returned."""
        self._advance(self._position + 1)

    def value(self, what: str) -> Any:
        """Read the value that begins at the next character.

        Args:
            what: what is being read, for messages: `row 17`.

        Raises:
            DataError: the value is not JSON, is nested too deeply, or is cut off by the end of the file.
        """
        self.peek()
        begins_on = self.line
        while True:
            try:
                value, end = self._decoder.decode(self._buffer, self._position)
            except TooDeepError:
                raise DataError(too_deep(what, location(self._shown_as, begins_on))) from None
            except json.JSONDecodeError as error:
                if self._may_go_on(error):
                    self._fill(max(len(self._buffer) - self._position, 1))
                    continue
                raise DataError(self._undecodable(error, what, begins_on)) from None
            if end == len(self._buffer) and not self._at_end:
                self._fill(1)  # a number at the end of the buffer may have more digits
                continue
            self._advance(end)
            return value

    def refuse(self, what: str, fix: str = "") -> DataError:
        """Return the error for invalid text at the cursor."""
        column = self._position - self._line_start + 1
        return DataError(what, where=location(self._shown_as, self.line, column), fix=fix)

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        near_the_end = error.pos + _TOKEN_CHARS >= len(self._buffer)
        return not self._at_end and (near_the_end or error.msg.startswith("Unterminated string"))

    def _undecodable(self, error: json.JSONDecodeError, what: str, begins_on: int) -> Problem:
        ended = not self._buffer[error.pos :].strip(WHITESPACE) or error.msg.startswith("Unterminated string")
        if self._at_end and ended:
            self._advance(len(self._buffer))
            return self.refuse(
                Message(
                    "the file ends inside {what}, which begins on line {begins_on}",
                    what=what,
                    begins_on=begins_on,
                ),
                fix=Message("The file seems to be truncated; copy or download it again."),
            ).problems[0]
        self._advance(error.pos)
        column = self._position - self._line_start + 1
        return not_json(error.msg, what, location(self._shown_as, self.line, column))

    def _advance(self, position: int) -> None:
        newlines = self._buffer.count("\n", self._position, position)
        if newlines:
            self.line += newlines
            self._line_start = self._buffer.rfind("\n", self._position, position) + 1
        self._position = position

    def _fill(self, num_chars: int) -> None:
        """Discard the text read so far, and load at least `num_chars` more characters, or all that remain."""
        pieces = [self._buffer[self._position :]]
        taken = 0
        while taken < num_chars and not self._at_end:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._at_end = True
            else:
                pieces.append(chunk)
                taken += len(chunk)
        self._line_start -= self._position
        self._buffer, self._position = "".join(pieces), 0


def not_json(message: str, what: str, where: str) -> Problem:
    """Return the problem for a JSONDecodeError's message, which contains no text from the row."""
    hint = next((hint for begin, hint in _HINTS.items() if message.startswith(begin)), "")
    reason = (message[:1].lower() + message[1:]).removesuffix(" at").removesuffix(" starting")
    return Problem(
        Message("{what} is not valid JSON: {reason}", what=what, reason=reason), where=where, fix=hint
    )


def too_deep(what: str, where: str) -> Problem:
    """Return the problem for a value that is nested too deeply."""
    return Problem(
        Message("{what} is nested more than {max_depth} levels deep", what=what, max_depth=MAX_DEPTH),
        where=where,
    )


def _depth(text: str, start: int, end: int) -> int:
    depth = deepest = 0
    for token in _BRACKETS.finditer(text, start, end):
        if token.group() in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif token.group() in "}]":
            depth -= 1
    return deepest
