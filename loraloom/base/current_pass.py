"""The current pass over a base, visible only to modules that are called in its own thread or task.

transformers calls `linear(x)` and nothing more, so the pass cannot be an argument. It is a context variable
instead: another thread does not see it, a coroutine has its own, and two bases in one process are
independent. There is one exception: autograd may recompute a checkpointed layer on a thread of its own, after
the pass has ended. `recomputation_contexts` sets the pass there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import ContextVar, Token
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Entry:
    """A holder of a pass, emptied when the pass ends, because a context may outlive the pass."""

    def __init__(self, value: Any) -> None:
        self.value = value


_Entries = Mapping["CurrentPass[Any]", _Entry]
_ENTRIES: ContextVar[_Entries] = ContextVar("loraloom_current_pass")


class CurrentPass(Generic[T]):
    """The pass that is running over one base, if any."""

    def get(self) -> T | None:
        """Return the pass of this thread or task; None if no pass is open."""
        entries = _ENTRIES.get(None)
        entry = entries.get(self) if entries else None
        return entry.value if entry is not None else None

    @contextmanager
    def set(self, value: T) -> Iterator[None]:
        """Make `get` return a pass during a `with` block."""
        entry = _Entry(value)
        token = _ENTRIES.set({**_ENTRIES.get({}), self: entry})
        try:
            yield
        finally:
            entry.value = None
            with suppress(ValueError):  # a generator may be closed in a different context
                _ENTRIES.reset(token)


class _Recomputation:
    """A context for recomputation, in which the passes that were open at its creation are current again."""

    def __init__(self, entries: _Entries) -> None:
        self._entries = {current: _Entry(entry.value) for current, entry in entries.items()}
        self._tokens: list[Token[_Entries]] = []

    def __enter__(self) -> None:
        self._tokens.append(_ENTRIES.set(self._entries))

    def __exit__(self, *error: object) -> None:
        _ENTRIES.reset(self._tokens.pop())


def recomputation_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return contexts for `torch.utils.checkpoint`: one for a layer, one to recompute it in its own pass."""
    return nullcontext(), _Recomputation(_ENTRIES.get({}))
