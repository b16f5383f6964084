"""Which line answers which row, while rows end at different times."""

from __future__ import annotations

from random import Random

from loraloom.evaluate.rows_to_answer import IDLE, RowsToAnswer


def test_each_model_answers_each_row_once_in_its_own_lines() -> None:
    random = Random(0)
    lines = RowsToAnswer(["a", None, "b"], list(range(11)), max_lines=4)
    answered: list[tuple[int, int]] = []
    lines.start_batch()
    while lines.num_active or lines.num_waiting:
        for line, row in enumerate(lines.rows):
            if row != IDLE and random.random() < 0.4:
                answered.append((lines.models[line], row))
                lines.end(line)
        if lines.num_joining:
            assert all(lines.rows[line] != IDLE for line in lines.join())
        elif lines.num_active:
            lines.shrink(0.1)
            assert lines.models == sorted(lines.models)
    assert sorted(answered) == [(model, row) for model in range(3) for row in range(11)]


def test_models_keep_equally_many_lines_unless_too_many_would_be_idle() -> None:
    lines = RowsToAnswer(["a", "b"], list(range(4)), max_lines=4)
    lines.start_batch()
    for line in (0, 1, 4):
        lines.end(line)
    assert lines.shrink(0.125) == [0, 2, 3, 5, 6, 7]  # of "a" one that is idle
    assert [(share.slot, share.num_rows) for share in lines.owners().shares] == [("a", 3), ("b", 3)]
    for line in (1, 2):  # all of "a"
        lines.end(line)
    assert lines.shrink(0.125) == [3, 4, 5]
    assert [(share.slot, share.num_rows) for share in lines.owners().shares] == [("b", 3)]


def test_a_row_joins_and_no_line_leaves_if_few_would() -> None:
    lines = RowsToAnswer([None], list(range(9)), max_lines=8)
    lines.start_batch()
    lines.end(3)
    assert lines.num_joining == 1
    assert lines.join() == [3]
    lines.end(3)
    assert lines.shrink(0.2) is None
    assert lines.shrink(0.125) == [0, 1, 2, 4, 5, 6, 7]
