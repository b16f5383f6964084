"""Memory, disk and time as findings."""

from __future__ import annotations

import ast
import inspect
from dataclasses import replace

import pytest

from loraloom.checks.resources import check_disk, check_memory, check_resources
from loraloom.forecast import footprint
from loraloom.forecast.prediction import Disk, Memory, Pace, Prediction
from loraloom.run.documents.words import shown_word
from loraloom.text.catalogue import rendered
from loraloom.text.message import Message
from tests.pseudo_locale import PseudoLocale, wide

MIB = 2**20
MEMORY = Memory(
    peak_bytes=900 * MIB,
    loaded_bytes=500 * MIB,
    base_bytes=300 * MIB,
    phase="training",
    parts={"activations": 200 * MIB, "adapters": 100 * MIB, "allocator": 60 * MIB, "at work": 40 * MIB},
    free_bytes=2000 * MIB,
)
DISK = Disk(checkpoint_bytes=10 * MIB, num_kept=2, free_bytes=100 * MIB)
PACE = Pace(step_seconds=0.5, tokens_per_second=100.0, epoch_seconds=60.0, seconds=180.0)


def test_what_fits_is_in_order_and_names_its_largest_parts() -> None:
    found = check_resources(Prediction((("main",),), MEMORY, PACE, DISK))
    assert [finding.check for finding in found] == ["memory", "disk", "time"]
    assert {finding.level for finding in found} == {"ok"}
    message = found[0].message
    assert message.startswith(
        "900 MiB at the peak: training takes 400 MiB in addition to 500 MiB already loaded"
    )
    assert "activations 200 MiB, adapters 100 MiB, allocator 60 MiB; 2.0 GiB free" in message
    assert "at work" not in message  # the three largest
    assert found[2].message.startswith("about 3 min for the steps (1 min per epoch)")


def test_phases_and_parts_of_memory_have_names_that_can_be_translated() -> None:
    tree = ast.parse(inspect.getsource(footprint))
    keys = {key.value for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys if key}
    keys |= {node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_phase(node)}
    assert len(keys - {"eval"}) > 10
    assert [key for key in sorted(keys - {"eval"}) if not isinstance(shown_word(key), Message)] == []
    shown = rendered(check_memory(MEMORY).message, PseudoLocale())
    assert f"{wide('training')} {wide('takes')} 400 MiB" in shown
    assert f"{wide('activations')} 200 MiB" in shown


def _is_phase(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "Phase"


@pytest.mark.parametrize(
    ("free", "level", "says"),
    [
        (399, "warning", "training will probably run out of memory"),
        (410, "warning", "memory will be tight"),
        (500, "ok", "900 MiB at the peak"),
    ],
)
def test_what_does_not_fit_is_a_warning_with_the_settings_to_change(free: int, level: str, says: str) -> None:
    finding = check_memory(replace(MEMORY, free_bytes=free * MIB))
    assert (finding.level, finding.check) == (level, "memory")
    assert finding.message.startswith(says)
    settings = ("per_device_train_batch_size", "gradient_accumulation_steps", "gradient_checkpointing")
    assert all((setting in finding.fix) == (level == "warning") for setting in settings)


def test_experiments_that_take_turns_are_told_that_they_do() -> None:
    little = replace(MEMORY, free_bytes=MIB)
    assert check_memory(little, num_waves=2).fix.endswith("Experiments already take turns.")
    assert "turns" not in check_memory(little).fix


@pytest.mark.parametrize(("free", "level"), [(29, "error"), (30, "ok")])
def test_there_must_be_room_for_three_checkpoints(free: int, level: str) -> None:
    finding = check_disk(replace(DISK, free_bytes=free * MIB))
    assert finding.level == level
    if level == "error":
        assert finding.message == "there is not enough space for 3 checkpoints of 10 MiB: 29 MiB free"
        assert finding.fix == "Free some space, or choose another `--out`."


def test_a_step_that_was_not_timed_is_said_to_be_unknown() -> None:
    found = check_resources(Prediction((("main",),), MEMORY, None, DISK))
    assert found[2].message == "unknown, because no step was timed before the run was stopped"
