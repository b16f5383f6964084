"""Three real rows as the model sees them, token by token, for people to read.

The view contains text from the rows. It is meant only for the terminal or standard output of the person who
asked for it, never for an event, a log or a file in a run's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from rich.cells import set_cell_size

from loraloom.base.loading import Base
from loraloom.data.batches import Batch, Side, SlotExamples, collate
from loraloom.data.encoding import IGNORED, EncodedSet, encode_texts
from loraloom.data.example import Example
from loraloom.run.documents.document import JsonObject
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from loraloom.text.units import counted
from loraloom.text.visible import printable

Place = Literal["short", "median", "long"]
PLACES: dict[Place, float] = {"short": 0.0, "median": 0.5, "long": 1.0}
HEAD, TAIL = 10, 4  # lines of a row that are shown; those between are only counted
NUMBER_WIDTH, WIDEST_COLUMN = 5, 24
_PLACES_SHOWN = {"short": Message("short"), "median": Message("median"), "long": Message("long")}
_COLUMNS = (Message("encoder reads"), Message("decoder is given"), Message("must predict"))


@dataclass(frozen=True)
class RowView:
    """One row of a batch, including its padding.

    Args:
        place: whether it is the short, the median or the long row.
        where: its file and line, or the file alone if it has no lines.
        row: number of the row in its file, from 1; a file may have all its rows on one line.
        encoder: tokens that the encoder reads.
        decoder: tokens that the decoder is given.
        labels: the token to predict at each decoder position; None if the loss ignores it (-100).
        padding: number of final encoder and decoder positions that are padding.
        neighbours: number of other segments in the same row of the batch.
        is_cut: whether the source and the response were truncated to their limits.
    """

    place: Place
    where: str
    row: int
    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    labels: tuple[str | None, ...]
    padding: tuple[int, int]
    neighbours: int
    is_cut: tuple[bool, bool]

    @property
    def num_tokens(self) -> tuple[int, int]:
        """Number of source and target tokens, without padding."""
        return len(self.encoder) - self.padding[0], len(self.decoder) - self.padding[1]

    def to_json(self) -> JsonObject:
        """Convert to JSON values for `--json`."""
        return asdict(self)


def view_rows(
    base: Base,
    examples: Sequence[Example],
    train_set: EncodedSet,
    *,
    limits: tuple[int, int],
    packing: bool,
) -> list[RowView]:
    """Return views of a short, a median and a long training row, in a batch laid out as in training.

    Args:
        examples: training rows.
        train_set: the same rows, encoded.
        limits: maximum number of source and response tokens.
        packing: whether training packs several examples into a row.
    """
    by_length = np.argsort(train_set.source_lengths + train_set.target_lengths, kind="stable")
    chosen = {int(by_length[round(share * (len(by_length) - 1))]): place for place, share in PLACES.items()}
    batch = collate(
        [SlotExamples(None, [train_set[index] for index in chosen])],
        base.layout,
        packing=packing,
    )
    return [
        _view(base, batch, number, place, examples[index], limits)
        for number, (index, place) in enumerate(chosen.items())
    ]


def _view(
    base: Base, batch: Batch, number: int, place: Place, example: Example, limits: tuple[int, int]
) -> RowView:
    source, source_padding = _positions(batch, "source", number)
    target, target_padding = _positions(batch, "target", number)
    row = batch.segments["target"][0][number].row
    labels = batch.labels[target].tolist()
    return RowView(
        place=place,
        where=example.where,
        row=example.row,
        encoder=_tokens(base, batch.input_ids[source].tolist()),
        decoder=_tokens(base, batch.decoder_input_ids[target].tolist()),
        labels=tuple(None if label == IGNORED else _tokens(base, [label])[0] for label in labels),
        padding=(source_padding, target_padding),
        neighbours=sum(other.row == row for other in batch.segments["target"][0]) - 1,
        is_cut=(
            _is_cut(base, example.source, limits[0], example.source_lang),
            _is_cut(base, example.response, limits[1], example.target_lang, as_target=True),
        ),
    )


def _positions(batch: Batch, side: Side, number: int) -> tuple[tuple[int, slice], int]:
    """Return an example's positions in a batch, including the padding after it, and the padding's length."""
    segments = batch.segments[side][0]
    own = segments[number]
    end = own.start + own.length
    owners = batch.source_segments if side == "source" else batch.target_segments
    later = [other.start for other in segments if other.row == own.row and other.start >= end]
    until = min(later, default=owners.shape[1])
    return (own.row, slice(own.start, until)), until - end


def _tokens(base: Base, ids: list[int]) -> tuple[str, ...]:
    return tuple(printable(token) for token in base.tokenizer.convert_ids_to_tokens(ids))


def _is_cut(base: Base, text: str, limit: int, code: str, *, as_target: bool = False) -> bool:
    _, num_cut = encode_texts(
        [text],
        base.tokenizer,
        limit,
        as_target=as_target,
        languages=base.languages,
        codes=[code] if base.languages else (),
        frame=base.frame,
    )
    return num_cut == 1


def view_lines(view: RowView, width: int) -> list[str]:
    """Format a row as lines: encoder input, decoder input and labels, side by side.

    Args:
        view: row to show.
        width: width of the terminal in columns; a Chinese character takes two.
    """
    column = max(8, min(WIDEST_COLUMN, (width - NUMBER_WIDTH) // 3 - 1))
    sources, targets = view.num_tokens
    num_counted = sum(label is not None for label in view.labels)
    length = max(sources, targets)
    hidden = range(HEAD, length - TAIL) if length > HEAD + TAIL + 1 else range(0)
    lines = [
        rendered(
            Message(
                "{place} row, {where}: {source_tokens}, {target_tokens}, {num_counted} counted in the loss",
                place=_PLACES_SHOWN[view.place],
                where=Message("{where}, row {row}", where=view.where, row=view.row),
                source_tokens=_cut(
                    Message("{num_tokens} source tokens", num_tokens=sources), is_cut=view.is_cut[0]
                ),
                target_tokens=_cut(
                    Message("{num_tokens} target tokens", num_tokens=targets), is_cut=view.is_cut[1]
                ),
                num_counted=num_counted,
            )
        ),
        _line("", tuple(map(rendered, _COLUMNS)), column),
    ]
    for place in range(length):
        if place not in hidden:
            lines.append(_line(str(place + 1), _cells(view, place), column))
        elif place == hidden.start:
            lines.append(_indented(Message("({num_positions} more positions)", num_positions=len(hidden))))
    return [*lines, *_padding_lines(view, length, column), *_neighbour_lines(view)]


def _cells(view: RowView, place: int) -> tuple[str, str, str]:
    encoder = view.encoder[place] if place < len(view.encoder) else ""
    if place >= len(view.decoder):
        return encoder, "", ""
    label = view.labels[place]
    return encoder, view.decoder[place], str(IGNORED) if label is None else label


def _padding_lines(view: RowView, length: int, column: int) -> list[str]:
    """Format the padding: the first position where both sides are padding, and the count for each side."""
    if not any(view.padding):
        return []
    source, target = view.padding
    summary = _indented(
        Message(
            "padding: {num_source} source, {num_target} target positions, ignored by the loss",
            num_source=source,
            num_target=target,
        )
    )
    first = _cells(view, length)
    return [_line(str(length + 1), first, column), summary] if any(first) else [summary]


def _neighbour_lines(view: RowView) -> list[str]:
    if not view.neighbours:
        return []
    others = counted(view.neighbours, "other example")
    return [_indented(Message("packed with {others}, which it cannot see", others=others))]


def _indented(message: Message) -> str:
    return f"{'':{NUMBER_WIDTH}}{rendered(message)}"


def _line(number: str, cells: Sequence[str], column: int) -> str:
    fitted = " ".join(set_cell_size(cell, column) for cell in cells)
    return f"{number:>{NUMBER_WIDTH - 1}} {fitted}".rstrip()


def _cut(tokens: Message, *, is_cut: bool) -> Message:
    return Message("{tokens} (cut)", tokens=tokens) if is_cut else tokens
