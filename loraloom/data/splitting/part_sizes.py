"""Sizes of the parts train, eval and test, and the division of the training file's rows among them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from loraloom.data.example import Example, count_entries, count_shared
from loraloom.data.splitting.groups import choose_parts
from loraloom.errors import DataError, Problem
from loraloom.recipe import DataSettings
from loraloom.text.message import Message, joined
from loraloom.text.units import counted

if TYPE_CHECKING:
    from loraloom.data.stored.example_file import StoredExamples

Part = Literal["train", "eval", "test"]
HeldOut = Literal["eval", "test"]

PARTS: tuple[Part, ...] = ("train", "eval", "test")
HELD_OUT: tuple[HeldOut, ...] = ("eval", "test")


def format_count(examples: Sequence[Example]) -> str:
    """Describe the number of rows and, if they come from conversations or articles, the number of those."""
    rows = counted(len(examples), "row")
    entries = count_entries(examples)
    return (
        Message("{rows} from {num_entries:,} entries of the file", rows=rows, num_entries=entries)
        if entries
        else rows
    )


def rows_wanted(settings: DataSettings, examples: Sequence[Example], train_name: str) -> dict[HeldOut, int]:
    """Compute the number of rows that each held-out part requests from the training file.

    Raises:
        DataError: there are too few rows.
    """
    num_rows = len(examples)
    wanted: dict[HeldOut, int] = {}
    for part in HELD_OUT:
        value = getattr(settings, part)
        if isinstance(value, str | list) or value == 0:
            continue
        if num_rows < 2:
            raise DataError(
                Message("contains 1 row, but a split needs at least 2"),
                where=train_name,
                fix=Message("Add rows, or set `data.{part}: 0`.", part=part),
            )
        wanted[part] = value if isinstance(value, int) else max(1, round(value * num_rows))
        if wanted[part] >= num_rows:
            raise DataError(
                Message(
                    "requests {wanted} rows, but {train_name} has {format_count}: none would be "
                    "left to train on",
                    wanted=wanted[part],
                    train_name=train_name,
                    format_count=format_count(examples),
                ),
                where=f"data.{part}",
                allowed=Message("a share below 1, or a count up to {num_rows}", num_rows=num_rows - 1),
            )
    if sum(wanted.values()) >= num_rows:
        asked = joined(
            " and ",
            (
                Message("{number} rows for {part}", number=number, part=part)
                for part, number in wanted.items()
            ),
        )
        raise DataError(
            Message(
                "{asked} would leave none of the {format_count} in {train_name} to train on",
                asked=asked,
                format_count=format_count(examples),
                train_name=train_name,
            ),
            where="data.eval, data.test",
            fix=Message("Request fewer rows."),
        )
    return wanted


def split_rows(
    examples: Sequence[Example], wanted: Mapping[HeldOut, int], settings: DataSettings, train_name: str
) -> dict[Part, Sequence[Example]]:
    """Divide the training file's rows between train and the held-out parts, so that groups stay whole.

    Raises:
        DataError: there are too few groups to give every part a row.
    """
    from loraloom.data.stored.example_file import StoredExamples

    if isinstance(examples, StoredExamples):
        return _split_stored(examples, wanted, settings, train_name)
    sizes: dict[str, int] = {}
    for example in examples:
        if not example.is_shared:
            sizes[example.group] = sizes.get(example.group, 0) + 1
    groups = list(sizes)
    random.Random(settings.split_seed).shuffle(groups)
    part_of: dict[str, HeldOut] = {}
    chosen = choose_parts([sizes[group] for group in groups], list(wanted.values()))
    for part, positions in zip(wanted, chosen, strict=True):
        if not positions:
            raise DataError(_too_few_groups(part, examples, len(groups), settings, train_name))
        part_of |= {groups[position]: part for position in positions}
    divided: dict[Part, list[Example]] = {"train": [], **{part: [] for part in wanted}}
    for example in examples:
        held_out = None if example.is_shared else part_of.get(example.group)
        divided[held_out or "train"].append(example)
    return dict(divided)


def _split_stored(
    examples: StoredExamples, wanted: Mapping[HeldOut, int], settings: DataSettings, train_name: str
) -> dict[Part, Sequence[Example]]:
    from loraloom.data.stored.division import take_groups

    parts, left, num_groups = take_groups(examples, wanted, settings.split_seed)
    for part, own in parts.items():
        if not own:
            raise DataError(_too_few_groups(part, examples, num_groups, settings, train_name))
    divided: dict[Part, Sequence[Example]] = {"train": left}
    for part, own in parts.items():
        divided[part] = own
    return divided


def _too_few_groups(
    part: HeldOut, examples: Sequence[Example], num_groups: int, settings: DataSettings, train_name: str
) -> Problem:
    num_shared = count_shared(examples)
    fix = Message("Give data.{part} a file of its own, or set `data.{part}: 0`.", part=part)
    if num_shared and not settings.conversation_history:
        fix = Message(
            "Set `data.conversation_history: true` to tell turns with the same text apart. {fix}", fix=fix
        )
    elif not num_shared and num_groups == 1:
        fix = Message("Check that the column in which the rows differ is read. {fix}", fix=fix)
    make = (
        Message("form {num_groups} such group", num_groups=num_groups)
        if num_groups == 1
        else Message("form {num_groups} such groups", num_groups=num_groups)
    )
    rows = Message("its {format_count} {make}", format_count=format_count(examples), make=make)
    if num_shared:
        shared = Message("{num_shared:,} have a source shared by many conversations", num_shared=num_shared)
        rows = Message(
            "of its {format_count}, {shared}, and the others {make}",
            format_count=format_count(examples),
            shared=shared,
            make=make,
        )
    return Problem(
        Message(
            "no rows can be taken for data.{part}, because rows with the same source stay together, as do "
            "the turns of one conversation; {rows}",
            part=part,
            rows=rows,
        ),
        where=train_name,
        fix=fix,
    )
