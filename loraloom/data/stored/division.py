"""Division of stored rows into train, eval and test, by the rules of `splitting/`."""

from __future__ import annotations

import random
from array import array
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from loraloom.data.example import Example
from loraloom.data.formats.row import KEPT_PROBLEMS
from loraloom.data.splitting.groups import choose_parts
from loraloom.data.stored.example_file import StoredExamples
from loraloom.data.stored.group_arrays import firsts_of

Name = TypeVar("Name", bound=str)
Flags = npt.NDArray[np.bool_]


def take_groups(
    examples: StoredExamples, wanted: Mapping[Name, int], seed: int
) -> tuple[dict[Name, StoredExamples], StoredExamples, int]:
    """Take whole groups for each held-out part, as `split_rows` does.

    Args:
        examples: the rows to divide.
        wanted: number of rows for each part.
        seed: decides the order of the groups.

    Returns:
        The rows of each part, the rows that are left, and the number of groups. A part for which there are
        too few groups is empty.
    """
    file, numbers = examples.file, examples.numbers
    groups, free = file.groups[numbers], ~file.shared[numbers]
    names, begins, sizes = np.unique(groups[free], return_index=True, return_counts=True)
    by_appearance = np.argsort(begins)
    names, sizes = names[by_appearance], sizes[by_appearance].astype(np.uint32)
    # An array is shuffled like a list, but without an object for each group.
    places = array("I", np.arange(len(names), dtype=np.uint32).tobytes())
    random.Random(seed).shuffle(places)
    order = np.frombuffer(places, np.uint32)
    codes = np.zeros(len(file), np.uint8)
    chosen = choose_parts(sizes[order], list(wanted.values()))
    for code, positions in enumerate(chosen, start=1):
        codes[names[order[positions]]] = code
    of_examples = np.where(free, codes[groups], 0)
    parts = {
        part: examples.chosen(np.flatnonzero(of_examples == code))
        for code, part in enumerate(wanted, start=1)
    }
    return parts, examples.chosen(np.flatnonzero(of_examples == 0)), len(names)


def rows_without_shared_turns(parts: Mapping[Name, StoredExamples]) -> dict[Name, StoredExamples]:
    """Remove the rows that `without_shared_turns` removes, for parts whose rows are stored in files."""
    kept: dict[Name, StoredExamples] = {}
    earlier: list[StoredExamples] = []
    for part, own in parts.items():
        kept[part] = own.chosen(np.flatnonzero(_are_kept(own, earlier))) if earlier else own
        if not len(kept[part]):
            kept[part] = own
        earlier.append(own)
    return kept


def _are_kept(own: StoredExamples, earlier: Sequence[StoredExamples]) -> Flags:
    firsts, num_earlier = _firsts([*earlier, own])
    shared_first = np.zeros(num_earlier, np.bool_)
    shared = np.concatenate([each.file.shared[each.numbers] for each in earlier])
    shared_first[firsts[:num_earlier][shared]] = True
    known = firsts[num_earlier:] < num_earlier
    known_shared = np.zeros(len(own), np.bool_)
    known_shared[known] = shared_first[firsts[num_earlier:][known]]
    records = own.file.records[own.numbers]
    is_new_row = np.zeros(int(records["entry"].max(initial=0)) + 1, np.bool_)
    is_new_row[records["entry"][~known]] = True
    is_copy = known & (records["turn"] > 0) & (known_shared | is_new_row[records["entry"]])
    kept: Flags = ~is_copy
    return kept


def repeated_sources(parts: Sequence[StoredExamples]) -> list[tuple[Example, Example] | None]:
    """Pair each example whose source is in an earlier part with the first earlier example of this source.

    Args:
        parts: the parts, in order.

    Returns:
        The pairs, in order; after the first `KEPT_PROBLEMS` pairs, None in place of each further pair.
    """
    found: list[tuple[Example, Example] | None] = []
    for place in range(1, len(parts)):
        firsts, num_earlier = _firsts(parts[: place + 1])
        own = firsts[num_earlier:]
        bounds = np.cumsum([0, *map(len, parts[:place])])
        for later in np.flatnonzero(own < num_earlier).tolist():
            if len(found) >= KEPT_PROBLEMS:
                found.append(None)
                continue
            first = int(own[later])
            holder = int(np.searchsorted(bounds, first, side="right")) - 1
            found.append((parts[place][later], parts[holder][first - int(bounds[holder])]))
    return found


def _firsts(parts: Sequence[StoredExamples]) -> tuple[npt.NDArray[np.uint32], int]:
    """Return, for each key of all parts, the index of the first equal key; and where the last part begins."""
    keys = [each.file.keys[each.numbers] for each in parts]
    return firsts_of(np.concatenate(keys)), sum(map(len, keys[:-1]))
