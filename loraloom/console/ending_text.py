"""The end of an experiment as text: why it ended, and how much it forgot by language pair."""

from __future__ import annotations

from collections.abc import Iterator

from loraloom.run.documents.words import shown_word
from loraloom.run.events import ExperimentEnd
from loraloom.text.message import Message, joined


def ending_lines(event: ExperimentEnd) -> Iterator[tuple[str, str]]:
    """Yield the lines that describe the end, each with its rich style."""
    if event.status != "done":
        yield (
            Message(
                "{experiment} {status}: {reason}",
                experiment=event.experiment,
                status=shown_word(event.status),
                reason=event.reason,
            ),
            "red" if event.status == "failed" else "",
        )
    # With a single pair, the total is sufficient.
    if len(event.retain_pairs) > 1:
        pairs = [
            Message(
                "{pair} {loss:.3f} ({forgetting:+.3f})", pair=pair, loss=own.loss, forgetting=own.forgetting
            )
            for pair, own in event.retain_pairs.items()
        ]
        yield (
            Message(
                "{experiment}: loss on data.retain (and its increase over the base's): {pairs}",
                experiment=event.experiment,
                pairs=joined(", ", pairs),
            ),
            "",
        )
