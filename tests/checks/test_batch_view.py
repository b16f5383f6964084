"""Three rows as the model sees them: taken out of a real batch, and readable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.cells import cell_len

from loraloom.base.loading import Base
from loraloom.checks.batch_view import RowView, view_lines, view_rows
from loraloom.data import row_packing
from loraloom.data.encoding import encode
from loraloom.data.example import Example
from tests.checks.data_rows import examples

PAIRS = [("好" * n, "学" * (n + 2)) for n in (9, 3, 30, 5, 12)]


@pytest.fixture(autouse=True)
def narrow_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows as wide as the longest, or these few would all share one."""
    monkeypatch.setattr(row_packing, "WIDENINGS", (1.0,))


def views(base: Base, *, packing: bool, limit: int = 100) -> list[RowView]:
    return views_of(base, examples(PAIRS), packing=packing, limit=limit)


def views_of(base: Base, rows: Sequence[Example], *, packing: bool, limit: int = 100) -> list[RowView]:
    train_set = encode(rows, base.tokenizer, max_source_length=limit, max_target_length=limit)
    return view_rows(base, rows, train_set, limits=(limit, limit), packing=packing)


@pytest.mark.parametrize("packing", [True, False])
def test_each_row_is_whole_in_its_place(mt5: Base, packing: bool) -> None:
    found = views(mt5, packing=packing)
    assert [(view.place, view.where, view.row) for view in found] == [
        ("short", "data.jsonl:2", 2),
        ("median", "data.jsonl:1", 1),
        ("long", "data.jsonl:3", 3),
    ]
    for view, n in zip(found, (3, 9, 30), strict=True):
        sources, targets = view.num_tokens
        assert view.encoder[:sources] == ("好",) * n + ("</s>",)
        assert view.decoder[:targets] == ("<pad>",) + ("学",) * (n + 2)
        assert view.labels[:targets] == ("学",) * (n + 2) + ("</s>",)
        # What lies behind is padding, and the loss looks away.
        assert set(view.encoder[sources:]) <= {"<pad>"}
        assert set(view.labels[targets:]) <= {None}
        assert view.is_cut == (False, False)


def test_padded_rows_end_where_the_longest_does(mt5: Base) -> None:
    found = views(mt5, packing=False)
    assert [view.padding for view in found] == [(27, 27), (21, 21), (0, 0)]
    assert {view.neighbours for view in found} == {0}


def test_packed_rows_share_one(mt5: Base) -> None:
    short, median, long = views(mt5, packing=True)
    assert (short.neighbours, median.neighbours, long.neighbours) == (1, 1, 0)
    # Of the two in one row only the last has padding behind it.
    assert sorted(view.padding[1] > 0 for view in (short, median)) == [False, True]


def test_cut_rows_say_so_and_end_in_eos(mt5: Base) -> None:
    found = views(mt5, packing=False, limit=8)
    assert [view.is_cut for view in found] == [(False, False), (True, True), (True, True)]
    assert all(view.labels[view.num_tokens[1] - 1] == "</s>" for view in found)
    assert "8 source tokens (cut), 8 target tokens (cut)" in view_lines(found[2], 80)[0]


@pytest.mark.parametrize(("line", "where"), [(1, "my.json:1"), (None, "my.json")])
def test_rows_on_one_line_or_on_none_are_told_apart(mt5: Base, line: int | None, where: str) -> None:
    rows = [replace(row, line=line) for row in examples(PAIRS, "my.json")]
    found = views_of(mt5, rows, packing=False)
    assert [view_lines(view, 80)[0].partition(": ")[0] for view in found] == [
        f"{place} row, {where}, row {row}" for place, row in (("short", 2), ("median", 1), ("long", 3))
    ]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_keep_their_columns_and_the_width(mt5: Base, width: int) -> None:
    for view in views(mt5, packing=True):
        _, head, *lines = view_lines(view, width)
        places = [cell_len(head.partition(word)[0]) for word in ("encoder", "decoder", "must")]
        for line in lines[:5]:
            cells = line.split()[1:]
            assert [cell_len(line.partition(f" {cells[0]} ")[0]) + 1, len(cells)] == [places[0], 3]
            assert cell_len(line[: line.rindex(cells[2])]) == places[2]
            assert cell_len(line) <= width


def test_long_rows_are_shown_by_their_two_ends(mt5: Base) -> None:
    lines = view_lines(views(mt5, packing=True)[2], 80)
    numbers = [line.split()[0] for line in lines[2:] if line.split()[0].isdigit()]
    assert numbers == [*map(str, range(1, 11)), "30", "31", "32", "33"]
    assert "     (19 more positions)" in lines


def test_the_first_position_of_padding_is_shown(mt5: Base) -> None:
    lines = view_lines(views(mt5, packing=False)[0], 80)
    assert lines[-2].split() == ["7", "<pad>", "<pad>", "-100"]
    assert lines[-1].strip() == "padding: 27 source, 27 target positions, ignored by the loss"


def test_a_token_cannot_move_the_cursor(mt5: Base) -> None:
    rows = examples([("\u202e你\n好\x9b", "好\n好")] * 3)
    train_set = encode(rows, mt5.tokenizer, max_source_length=99, max_target_length=99)
    for view in view_rows(mt5, rows, train_set, limits=(99, 99), packing=False):
        assert all(line.isprintable() for line in view_lines(view, 80))
