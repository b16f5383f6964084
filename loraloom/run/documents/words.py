"""Words in documents that are shown to people: statuses, verdicts, uses of memory, and keys of a run."""

from __future__ import annotations

from loraloom.run.documents.checks import LEVELS
from loraloom.text.message import Message

_WORDS: dict[str, str] = {
    **{str(level): word for level, word in LEVELS.items()},
    "waiting": Message("waiting"),
    "training": Message("training"),
    "done": Message("done"),
    "stopped": Message("stopped"),
    "pruned": Message("pruned"),
    "failed": Message("failed"),
    "better": Message("better"),
    "worse": Message("worse"),
    "higher": Message("higher"),
    "lower": Message("lower"),
    "no significant difference": Message("no significant difference"),
    "too few rows": Message("too few rows"),
    "nothing changed": Message("nothing changed"),
    "did nothing": Message("did nothing"),
    "not judged": Message("not judged"),
    "evaluation": Message("evaluation"),
    "answers": Message("answers"),
    "saving": Message("saving"),
    "activations": Message("activations"),
    "adapters": Message("adapters"),
    "allocator": Message("allocator"),
    "at work": Message("at work"),
    "caches": Message("caches"),
    "logits": Message("logits"),
    "best adapters": Message("best adapters"),
    "checkpoint": Message("checkpoint"),
    "first touched": Message("first touched"),
    "head in int8": Message("head in int8"),
    "gathered weights": Message("gathered weights"),
    "unfinished": Message("unfinished"),
    "some failed": Message("some failed"),
    "damaged": Message("damaged"),
    "run": Message("run"),
    "status": Message("status"),
    "experiments": Message("experiments"),
    "started": Message("started"),
    "base": Message("base"),
}


def shown_word(word: str) -> str:
    """Return a word from a document as a message; an unknown word is returned unchanged.

    >>> shown_word("too few rows")
    'too few rows'
    """
    return _WORDS.get(word, word)
