"""Sources whose text has the name of a control token, such as `</s>`, and is read as that token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def controls_in(ids: Sequence[int], controls: Mapping[int, str]) -> frozenset[str]:
    """The control tokens that a source holds before its end, because its text has their names.

    Args:
        ids: EOS last.
        controls: id -> name.
    """
    return frozenset(controls[id] for id in controls.keys() & ids[:-1])


def describe_controls(found: Sequence[frozenset[str]]) -> str:
    """One sentence on sources that hold control tokens; "" if none does.

    Args:
        found: of each source, as `controls_in` tells.
    """
    names = sorted(frozenset().union(*found))
    if not names:
        return ""
    counted = f"{sum(map(bool, found)):,} of {len(found):,} sources"
    shown = " or ".join(f"`{name}`" for name in names)
    return f"{counted} hold the text {shown}, which the tokenizer takes for a control token"
