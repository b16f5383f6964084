"""What should be known of how rows were read: what was left out, and what nobody could place."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from loraloom.data.formats.row import SHOWN_NAMES, Row
from loraloom.data.layouts.roles import shown_role
from loraloom.errors import Problem
from loraloom.text.visible import quoted


@dataclass(slots=True)
class LayoutNotes:
    """What was left out, or read in a way that should be known.

    Args:
        what: a sentence after its count, such as `questions at the end of a conversation, left out`.
        unused_keys: keys inside turns that are not read, and in how many turns.
        unknown_roles: each role that is not known -> the first row with it, its place there, how many rows.
    """

    what: Counter[str] = field(default_factory=Counter)
    unused_keys: Counter[str] = field(default_factory=Counter)
    unknown_roles: dict[str, tuple[Row, str, int]] = field(default_factory=dict)

    def unknown(self, row: Row, places: Mapping[str, str]) -> None:
        """Count a row with roles that are not known."""
        for role, place in places.items():
            first, where, count = self.unknown_roles.get(role, (row, place, 0))
            self.unknown_roles[role] = (first, where, count + 1)

    def notes(self) -> list[str]:
        """What was accepted and should be known."""
        notes = [f"{count:,} {what}" for what, count in sorted(self.what.items())]
        keys = self.unused_keys
        if keys:
            shown = [f"{quoted(key)} (in {count:,})" for key, count in keys.most_common(SHOWN_NAMES)]
            more = f" and {len(keys) - SHOWN_NAMES} more" if len(keys) > SHOWN_NAMES else ""
            notes.append(f"keys inside turns that are not used: {', '.join(shown)} turns{more}")
        return notes

    def problems(self) -> Iterator[tuple[Row, Problem]]:
        """The roles that are not known, each at its first row; the last says what to write."""
        names = list(self.unknown_roles)
        for role, (row, place, count) in self.unknown_roles.items():
            rows = "1 row" if count == 1 else f"{count:,} rows"
            what = f"row {row.number}: `{place}` is {shown_role(role)}, a role not known here (in {rows})"
            yield row, Problem(what, where=row.where, fix=_lines_to_write(names) if role == names[-1] else "")


def _lines_to_write(roles: list[str]) -> str:
    names = ", ".join(json.dumps(role, ensure_ascii=False) for role in roles if shown_role(role)[0] == "`")
    return (
        "Say in the recipe, or with --set, whose turns they are, for example:\n"
        f"  data:\n    roles: {{user: [{names}]}}\n"
        "Each may stand under user, assistant, system or ignored, which leaves its turns out."
    )
