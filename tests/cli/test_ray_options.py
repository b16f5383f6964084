"""--ray, whose address may be left out, and what goes with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from loraloom.cli.app import make_app
from loraloom.cli.translated_help import words_with_values
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.workers.cluster import connect, slots_of
from loraloom.workers.ray_options import RayOptions


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["r.yaml", "--ray"], ["r.yaml", "--ray", "auto"]),
        (["--ray", "r.yaml"], ["--ray", "auto", "r.yaml"]),
        (["--ray", "--out", "x"], ["--ray", "auto", "--out", "x"]),
        (["--ray", "head:6379", "x"], ["--ray", "head:6379", "x"]),
        (["--ray", "ray://head:10001"], ["--ray", "ray://head:10001"]),
        (["--ray", "local"], ["--ray", "local"]),
        (["--out", "x"], ["--out", "x"]),
    ],
)
def test_an_address_may_be_left_out(words: list[str], read: list[str]) -> None:
    assert list(words_with_values(words)) == read


@pytest.mark.parametrize("verb", ["train", "search"])
def test_options_of_ray_need_it(verb: str, tmp_path: Path) -> None:
    words = ["r.yaml", "--ray-cpus", "2"]
    if verb == "search":
        words += ["--space", str(tmp_path / "s"), "--trials", "2"]
    told = CliRunner().invoke(make_app("check", verb), [verb, *words])
    assert told.exit_code == 2
    assert "--ray-cpus and --send-files require --ray" in " ".join(told.output.replace("│", "").split())


def test_ray_that_is_not_installed_is_said_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"Ray is not installed.*pip install 'loraloom\[ray\]'"):
        connect(RayOptions())


@pytest.mark.parametrize(
    ("resources", "num_cpus", "number", "cpus"),
    [
        ({"CPU": 8.0}, None, 1, 8),
        ({"CPU": 8.0}, 3, 2, 3),
        ({"CPU": 8.0, "GPU": 4.0}, None, 4, 2),
        ({"CPU": 8.0, "GPU": 4.0}, 4, 2, 4),
        ({"CPU": 0.0}, None, 0, 0),
        ({}, None, 0, 0),
    ],
)
def test_a_node_has_a_worker_for_each_gpu_or_for_its_cpus(
    resources: dict[str, float], num_cpus: int | None, number: int, cpus: int
) -> None:
    found = slots_of({"NodeID": "n", "NodeManagerHostname": "h", "Resources": resources}, num_cpus)
    assert sum(found.values()) == number
    assert all(slot.num_cpus == cpus and slot.num_beside == number - 1 for slot in found)


def test_ray_beside_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    recipe = Recipe.model_validate({"model_name_or_path": "x", "data": {"train": "rows.json"}})
    with pytest.raises(RunError, match="--ray: cannot be used if several processes train together"):
        train(recipe, ray=RayOptions("local"))
