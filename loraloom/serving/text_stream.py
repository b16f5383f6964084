"""Conversion of an answer to text while it is generated: the part that can be shown, and whether to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # the bytes of a character that is not complete yet


class TextStream:
    """Incremental converter of an answer's tokens to text.

    Args:
        text_of: converts tokens to text.
        stops: stop strings; the answer ends before the first one that occurs in it.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._text_of, self._stops = text_of, stops
        self._num_shown = 0
        self._held_back = max((len(stop) for stop in stops), default=1) - 1

    def advance(self, tokens: Sequence[int], *, is_complete: bool) -> tuple[str, bool]:
        """Return the new text, and whether a stop string was found.

        Args:
            tokens: tokens of the whole answer so far.
            is_complete: whether the answer has no more tokens; until then, text at the end that may be the
                beginning of a stop string, or an incomplete character, is held back.
        """
        text = self._text_of(tokens)
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            return self._show(text, min(found)), True
        if is_complete:
            return self._show(text, len(text)), False
        return self._show(text, len(text.rstrip(INCOMPLETE)) - self._held_back), False

    def _show(self, text: str, end: int) -> str:
        end = max(end, self._num_shown)
        shown, self._num_shown = text[self._num_shown : end], end
        return shown
