"""A prediction for another number of processes than it was made for."""

from __future__ import annotations

from loraloom.run.documents.prediction import Disk, Memory, Prediction, Traffic


def test_a_run_that_resumes_on_other_processes_exchanges_what_these_do() -> None:
    memory, disk = Memory(1, 1, 1, "training", {}, 1), Disk(1, 1, 1)
    made = Prediction((("main",),), memory, None, disk, Traffic(2, 100, 60))
    assert made.for_processes(2) is made
    assert made.for_processes(1).traffic is None
    assert made.for_processes(4).traffic == Traffic(4, 100, 90)  # 3/4 of 120 bytes instead of half
    assert made.for_processes(1).for_processes(2).traffic is None
