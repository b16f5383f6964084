"""Assignment of examples to groups, each of which must stay in one part of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loraloom.data.example import Example
from loraloom.data.splitting.groups import SourceGroups, source_key


def in_groups(examples: Sequence[Example], groups: SourceGroups) -> list[Example]:
    """Assign examples to their groups, once every row that may belong to a group has been read."""
    shared = groups.tie()
    return [
        replace(
            example,
            group=repr(groups.of((example.path, example.row))),
            is_shared=bool(shared) and source_key(example.source) in shared,
        )
        for example in examples
    ]
