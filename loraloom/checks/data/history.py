"""The check that later answers in a conversation have the earlier turns as context."""

from __future__ import annotations

from collections import Counter

from loraloom.checks.data.data_view import DataView, places, share
from loraloom.checks.finding import Finding
from loraloom.data.sources.source_template import SourceTemplate
from loraloom.data.splitting.groups import source_key
from loraloom.text.message import Message

FEW_CHARS = 16  # "and then?", "what else do you know?": too short to be understood alone


def check_history(view: DataView) -> list[Finding]:
    """Report what `data.conversation_history` does to these rows, and what the opposite setting would do."""
    rows = view.rows
    later = [example for example in rows if example.has_history]
    if not later:
        return [Finding("ok", "history", "data", Message("no row answers a later turn of a conversation"))]
    of_rows = Message(
        "{share} rows answer a later turn of a conversation", share=share(len(later), len(rows))
    )
    where = "data.conversation_history"
    columns = SourceTemplate(view.settings.source_prefix).columns
    if columns and "history" not in columns:
        message = Message(
            "{of_rows}, and the template in data.source_prefix does not include the earlier turns",
            of_rows=of_rows,
        )
        return [
            Finding(
                "warning", "history", places(later), message, Message("Add `{{history}}` to the template.")
            )
        ]
    if columns or view.settings.conversation_history:
        message = Message("{of_rows}, with the earlier turns in the source", of_rows=of_rows)
        if not columns:
            message = Message(
                "{message}; with `false`, each would be trained on its last question alone", message=message
            )
        return [Finding("note", "history", where, message)]
    asked = Counter(source_key(example.source) for example in rows)
    short = sum(len(example.source) <= FEW_CHARS for example in later)
    again = sum(asked[source_key(example.source)] > 1 for example in later)
    message = Message(
        "{of_rows} and are trained on without the earlier turns: {short:,} of these sources "
        "have at most {few_chars} characters, and {again:,} are also the source of another row",
        of_rows=of_rows,
        short=short,
        few_chars=FEW_CHARS,
        again=again,
    )
    fix = Message(
        "Set `data.conversation_history: true` to add the earlier turns to the source, oldest first."
    )
    return [Finding("warning", "history", places(later), message, fix)]
