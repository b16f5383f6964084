"""Every bad input that is known has a test: of a numbered list, no row may be lost.

A test carries its row's number in its name (`test_48_…`) or in its case's (`"48 eval below 0"`); those that
live elsewhere under another name are listed here.

  1-39   data files and their rows            52-60  base models, adapters, checkpoints
  40-48  recipes                              61-68  crashes, signals, memory, numbers, locks
  49-51  run directories                      69-75  servers
                                              76-78  hostile models, hostile text, personal data
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NUM_ROWS = 78
NUMBERED = re.compile(r"(?:test_)?((?:\d+[_ ])+)")
# There is no server yet.
DOES_NOT_APPLY = set(range(69, 76))
ELSEWHERE: dict[int, tuple[str, ...]] = {
    36: ("data/test_rows.py::test_a_file_larger_than_memory_streams",),
    49: (
        "flows/test_exit_codes.py::test_a_run_of_another_recipe_is_refused_with_what_differs",
        "flows/test_run_folder.py::test_a_second_run_in_the_same_place_is_refused",
    ),
    50: ("flows/test_run_folder.py::test_a_place_where_nobody_may_write",),
    51: ("faults/test_io_errors.py::test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room",),
    61: ("faults/test_kills.py::test_killed_anywhere_it_resumes_to_the_same_bytes",),
    62: (
        "faults/test_signals.py::test_out_within_the_grace_period_and_resumed_bit_for_bit",
        "faults/test_signals.py::test_a_second_signal_ends_at_once",
    ),
    63: ("training/test_passes.py::test_out_of_memory_the_same_step_goes_through_in_smaller_passes",),
    64: (
        "training/test_loop.py::test_an_experiment_whose_loss_is_not_finite_fails_before_its_weights_change_and_alone",
        "training/test_loop.py::test_a_gradient_that_is_not_finite_fails_too",
    ),
    65: ("commands/test_lost_device.py::test_a_lost_device_is_said_and_the_resume_ends_with_the_same_bytes",),
    67: ("search/test_interruptions.py::test_a_lock_that_stays_is_said_and_costs_nothing",),
    68: ("faults/test_locks.py::test_of_two_processes_on_one_run_exactly_one_works",),
    77: (
        "report/test_csv_and_json.py::test_a_formula_becomes_text",
        "report/test_page.py::test_the_policy_allows_this_style_and_this_script_and_nothing_else",
        "flows/test_output.py::test_control_characters_of_a_text_do_not_reach_the_terminal",
    ),
}


def names_in(file: Path) -> Iterator[str]:
    """Of a test file: its tests, and the keys of its tables."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name
        elif isinstance(node, ast.Dict):
            yield from (
                key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )


def numbers_in(name: str) -> set[int]:
    """`test_53_55_an_adapter` → 53 and 55."""
    found = NUMBERED.match(name)
    return {int(number) for number in re.findall(r"\d+", found[1])} if found else set()


def test_every_row_has_a_test() -> None:
    files = [*TESTS.glob("flows/test_bad_*.py"), *TESTS.glob("checks/test_data_*.py")]
    numbered = {number for file in files for name in names_in(file) for number in numbers_in(name)}
    expected = set(range(1, NUM_ROWS + 1)) - DOES_NOT_APPLY
    assert sorted(expected - numbered - ELSEWHERE.keys()) == []


@pytest.mark.parametrize("test", sorted({test for tests in ELSEWHERE.values() for test in tests}))
def test_what_is_listed_is_there(test: str) -> None:
    file, _, name = test.partition("::")
    assert name in names_in(TESTS / file)
