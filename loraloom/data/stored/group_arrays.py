"""The same groups of rows as in `SourceGroups`, in arrays of a few bytes per row instead of a few hundred.

The rules are those of `splitting/groups.py`, which states and justifies them. Here, a *row* is one entry of a
data file, with one or several examples; the key of an example is the `source_key` of its source.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loraloom.data.splitting.groups import LARGEST
from loraloom.data.stored.example_file import KEY

Keys = npt.NDArray[Any]  # of dtype KEY
Numbers = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class ExampleGroups:
    """The groups of all examples.

    Args:
        first: uint32 [examples], number of the first example in the row that represents each example's group.
        shared: bool [examples], whether each example's source is a turn that many conversations share.
    """

    first: Numbers
    shared: npt.NDArray[np.bool_]


def group_examples(keys: Keys, rows: Numbers, ranks: Numbers) -> ExampleGroups:
    """Group examples by the sources of their rows.

    Args:
        keys: KEY [examples], the key of each source.
        rows: uint32 [examples], number of each example's row, ascending from 0.
        ranks: uint32 [rows], the place of each row if the rows were sorted by file name, then row number.
    """
    starts = np.flatnonzero(np.diff(rows, prepend=np.uint32(0xFFFFFFFF))).astype(np.uint32)
    parents = np.arange(len(starts), dtype=np.uint32)
    alone, sets = _by_number_of_keys(keys, starts, len(rows))
    alone_keys = keys[starts[alone]]
    _join_equal(parents, alone, alone_keys)
    shared_keys = np.zeros(0, KEY)
    if sets:
        together = np.array([row for row, _ in sets], np.uint32)
        _join_equal(parents, together, np.frombuffer(b"".join(digest for _, digest in sets), KEY))
        shared_keys = _tie(parents, keys, starts, len(rows), together, (alone, alone_keys), ranks)
    _resolve(parents)
    first = starts[parents][rows] if len(rows) else np.zeros(0, np.uint32)
    return ExampleGroups(first, _are_in(keys, shared_keys))


def order_of(keys: Keys) -> npt.NDArray[np.intp]:
    """Return the indices that sort the keys; equal keys keep their order."""
    return np.lexsort((np.ascontiguousarray(keys["low"]), np.ascontiguousarray(keys["high"])))


def are_new(keys: Keys, order: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Return, for each key in the order of `order_of`, whether it differs from the key before it."""
    new = np.ones(len(order), np.bool_)
    for side in ("high", "low"):
        column = np.ascontiguousarray(keys[side])[order]
        changes = column[1:] != column[:-1]
        new[1:] = changes if side == "high" else new[1:] | changes
    return new


def firsts_of(keys: Keys) -> Numbers:
    """Return, for each key, the index of the first key that equals it."""
    order = order_of(keys)
    new = are_new(keys, order)
    runs = np.cumsum(new, dtype=np.uint32) - np.uint32(1)
    firsts = np.empty(len(keys), np.uint32)
    firsts[order] = order[new].astype(np.uint32)[runs]
    return firsts


def _by_number_of_keys(keys: Keys, starts: Numbers, num_examples: int) -> tuple[Numbers, list[Any]]:
    """Return the rows that have a single source, and the other rows, each with a digest of its sources."""
    sizes = np.diff(starts, append=np.uint32(num_examples))
    is_alone = sizes == 1
    sets: list[tuple[int, bytes]] = []
    for row in np.flatnonzero(sizes > 1).tolist():
        own = _own_keys(keys, starts, sizes, row)
        if len(own) == 1:
            is_alone[row] = True
        else:
            sets.append((row, hashlib.blake2b(b"".join(own), digest_size=16).digest()))
    return np.flatnonzero(is_alone).astype(np.uint32), sets


def _own_keys(keys: Keys, starts: Numbers, sizes: Numbers, row: int) -> list[bytes]:
    begin = int(starts[row])
    return sorted({key.tobytes() for key in keys[begin : begin + int(sizes[row])]})


def _join_equal(parents: Numbers, rows: Numbers, keys: Keys) -> None:
    parents[rows] = rows[firsts_of(keys)]


def _tie(
    parents: Numbers,
    keys: Keys,
    starts: Numbers,
    num_examples: int,
    together: Numbers,
    alone: tuple[Numbers, Keys],
    ranks: Numbers,
) -> Keys:
    """Join the rows that share a turn, like `SourceGroups.tie`; return the keys of the shared turns."""
    sizes = np.diff(starts, append=np.uint32(num_examples))
    firsts = together[parents[together] == together]
    own = [(key, row) for row in firsts.tolist() for key in _own_keys(keys, starts, sizes, row)]
    rows, row_keys = alone
    is_first = parents[rows] == rows
    held_keys = np.concatenate(
        [np.frombuffer(b"".join(key for key, _ in own), KEY).reshape(-1), row_keys[is_first]]
    )
    held_rows = np.concatenate([np.array([row for _, row in own], np.uint32), rows[is_first]])
    most = max(2, int(LARGEST * (int(is_first.sum()) + len(firsts))))
    tree, counted = array("I", parents.tobytes()), Counter[int]()
    by_rank = np.empty(len(ranks), np.uint32)
    by_rank[ranks] = np.arange(len(ranks), dtype=np.uint32)
    held = list(_held(held_keys, ranks[held_rows]))
    shared: list[bytes] = []
    for key, sharing in sorted(held, key=lambda each: (len(each[1]), each[1])):
        roots = sorted({int(ranks[_root(tree, int(by_rank[rank]))]) for rank in sharing})
        size = sum(counted[root] or 1 for root in roots)
        if len(roots) > 1 and size > most:
            shared.append(key)
            continue
        for root in roots[1:]:
            tree[int(by_rank[root])] = int(by_rank[roots[0]])
        counted[roots[0]] = size
    parents[:] = np.frombuffer(tree, np.uint32)
    return np.frombuffer(b"".join(shared), KEY)


def _held(keys: Keys, ranks: Numbers) -> Iterator[tuple[bytes, list[int]]]:
    """Yield each key that several rows have, with the ranks of those rows."""
    order = order_of(keys)
    starts = np.flatnonzero(are_new(keys, order))
    lengths = np.diff(starts, append=len(order))
    for start, length in zip(starts[lengths > 1].tolist(), lengths[lengths > 1].tolist(), strict=True):
        members = order[start : start + length]
        yield keys[members[0]].tobytes(), sorted(ranks[members].tolist())


def _root(tree: array[int], row: int) -> int:
    while (parent := tree[row]) != row:
        tree[row] = tree[parent]
        row = parent
    return row


def _resolve(parents: Numbers) -> None:
    """Replace the parent of every row by the root of its tree, in place."""
    while not np.array_equal(above := parents[parents], parents):
        parents[:] = above


def _are_in(keys: Keys, few: Keys) -> npt.NDArray[np.bool_]:
    """Return, for each key, whether it is one of the keys in `few`."""
    found = np.isin(keys["high"], few["high"]) if len(few) else np.zeros(len(keys), np.bool_)
    known = {key.tobytes() for key in few}
    for place in np.flatnonzero(found).tolist():
        found[place] = keys[place].tobytes() in known
    return found
