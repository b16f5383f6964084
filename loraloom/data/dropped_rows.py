"""Notes on rows that were dropped: how many, which lines and why, but never their text."""

from __future__ import annotations

from collections.abc import Sequence

from loraloom.data.formats.row import DroppedRow
from loraloom.errors import Problem
from loraloom.text.message import Message, joined
from loraloom.text.units import counted

SHOWN_PLACES = 20
SHOWN_REASONS = 10
NOTHING_LEARNT = Message(
    "Mark the answers to train on, or set `data.answer_weights: false` to train on all of them."
)


def describe_none_left(shown_as: str, num_empty: int, num_bad: int, why: Sequence[str] = ()) -> Problem:
    """Describe the problem with a file that has no examples to train on.

    Args:
        num_empty, num_bad: number of empty and of invalid rows that were dropped.
        why: notes on what else was skipped, each with its count.
    """
    if not num_empty and not num_bad:
        what: str = Message("contains no answer to train on") + (
            Message(": {why}", why=joined("; ", why)) if why else ""
        )
        return Problem(
            what,
            where=shown_as,
            fix=NOTHING_LEARNT if why else Message("Check that this is the intended file."),
        )
    counts = [
        Message.counting("{count:,} was {what}", "{count:,} were {what}", count=count, what=what)
        for count, what in ((num_empty, Message("empty")), (num_bad, Message("invalid")))
        if count
    ]
    what = counts[0] if len(counts) == 1 else joined(" and ", counts)
    fix = Message("Set `data.on_invalid: error` to see why rows are invalid.") if num_bad else ""
    return Problem(
        Message("no rows are left: {what}", what=what),
        where=shown_as,
        fix=fix,
    )


def describe_dropped(dropped: Sequence[DroppedRow]) -> str:
    """Summarize dropped rows by reason; the run's split.json lists all of them."""
    by_reason: dict[str, list[str]] = {}
    for row in dropped:
        by_reason.setdefault(row.why, []).append(row.place)
    reasons: list[str] = []
    for why, places in list(by_reason.items())[:SHOWN_REASONS]:
        unit = (
            "" if places[0].startswith("row") else Message("line ") if len(places) == 1 else Message("lines ")
        )
        more = (
            Message(" and {num_places:,} more", num_places=len(places) - SHOWN_PLACES)
            if len(places) > SHOWN_PLACES
            else ""
        )
        reasons.append(
            Message(
                "{unit}{places}{more}: {why}",
                unit=unit,
                places=", ".join(places[:SHOWN_PLACES]),
                more=more,
                why=why,
            )
        )
    if len(by_reason) > SHOWN_REASONS:
        reasons.append(
            Message("{num_by_reason:,} more reasons", num_by_reason=len(by_reason) - SHOWN_REASONS)
        )
    bad = Message("{rows} dropped (data.on_invalid: drop)", rows=counted(len(dropped), "invalid row"))
    return Message("{bad}: {reasons}", bad=bad, reasons=joined("; ", reasons))


def describe_empty(count: int) -> str:
    """Summarize how many empty rows were dropped."""
    return Message("{rows} dropped (data.on_empty: drop)", rows=counted(count, "empty row"))


def describe_entries(num_entries: int, entry: str, num_rows: int) -> str:
    """Describe how many rows the conversations or articles of a file yielded."""
    rows = counted(num_rows, "row")
    if entry == "article":
        return Message.counting(
            "{count:,} article gives {rows}, one for each answer to train on",
            "{count:,} articles give {rows}, one for each answer to train on",
            count=num_entries,
            rows=rows,
        )
    return Message.counting(
        "{count:,} conversation gives {rows}, one for each answer to train on",
        "{count:,} conversations give {rows}, one for each answer to train on",
        count=num_entries,
        rows=rows,
    )
