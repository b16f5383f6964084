"""Notes on how rows were read: what was skipped, and roles that are unknown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from loraloom.data.formats.row import SHOWN_NAMES, Row
from loraloom.data.layouts.roles import shown_role
from loraloom.errors import Problem
from loraloom.text.message import Message, joined
from loraloom.text.visible import quoted


@dataclass(slots=True)
class LayoutNotes:
    """Counts of what was skipped, or read in a way that the user should know about.

    Args:
        what: number of occurrences by description, such as `questions without an answer`.
        unused_keys: number of turns with each key that is not read.
        unknown_roles: each unknown role -> the first row with it, its place there, number of rows.
    """

    what: Counter[str] = field(default_factory=Counter)
    unused_keys: Counter[str] = field(default_factory=Counter)
    unknown_roles: dict[str, tuple[Row, str, int]] = field(default_factory=dict)

    def unknown(self, row: Row, places: Mapping[str, str]) -> None:
        """Count a row with unknown roles."""
        for role, place in places.items():
            first, where, count = self.unknown_roles.get(role, (row, place, 0))
            self.unknown_roles[role] = (first, where, count + 1)

    def notes(self) -> list[str]:
        """Return notes for the user on what was skipped or read unusually, and on unused keys."""
        notes: list[str] = [
            Message("{count:,} {what}", count=count, what=what) for what, count in sorted(self.what.items())
        ]
        keys = self.unused_keys
        if keys:
            shown = [
                Message("{key} ({count:,})", key=quoted(key), count=count)
                for key, count in keys.most_common(SHOWN_NAMES)
            ]
            more = (
                Message(" and {num_keys} more", num_keys=len(keys) - SHOWN_NAMES)
                if len(keys) > SHOWN_NAMES
                else ""
            )
            notes.append(
                Message(
                    "unused keys inside turns, each with its number of turns: {shown}{more}",
                    shown=joined(", ", shown),
                    more=more,
                )
            )
        return notes

    def problems(self) -> Iterator[tuple[Row, Problem]]:
        """Yield a problem for each unknown role, with the first row that has it; only the last has a fix."""
        names = list(self.unknown_roles)
        for role, (row, place, count) in self.unknown_roles.items():
            rows = Message("1 row") if count == 1 else Message("{count:,} rows", count=count)
            what = Message(
                "row {number}: `{place}` is {shown_role}, which is not a known role (in {rows})",
                number=row.number,
                place=place,
                shown_role=shown_role(role),
                rows=rows,
            )
            yield row, Problem(what, where=row.where, fix=_lines_to_write(names) if role == names[-1] else "")


def _lines_to_write(roles: list[str]) -> str:
    names = ", ".join(json.dumps(role, ensure_ascii=False) for role in roles if shown_role(role)[0] == "`")
    return Message(
        "Assign the roles in the recipe or with `--set`, for example:\n"
        "  data:\n"
        "    roles: {{user: [{names}]}}\n"
        "Each may be listed under user, assistant, system or ignored; turns of ignored roles are skipped.",
        names=names,
    )
