"""Sources whose text contains the name of a control token (`</s>`), which is then read as that token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loraloom.text.message import Message, joined


def controls_in(ids: Sequence[int], controls: Mapping[int, str]) -> frozenset[str]:
    """Return the names of the control tokens that a source contains before its last token.

    Args:
        ids: token ids, EOS last.
        controls: token id -> name.
    """
    return frozenset(controls[id] for id in controls.keys() & ids[:-1])


def describe_controls(found: Sequence[frozenset[str]]) -> str:
    """Describe in one sentence the sources that contain control tokens; "" if none does.

    Args:
        found: result of `controls_in` for each source.
    """
    names = sorted(frozenset().union(*found))
    if not names:
        return ""
    counted = Message("{sum:,} of {num_found:,} sources", sum=sum(map(bool, found)), num_found=len(found))
    shown = joined(" or ", (f"`{name}`" for name in names))
    return Message(
        "{counted} contain the text {shown}, which the tokenizer reads as a control token",
        counted=counted,
        shown=shown,
    )
