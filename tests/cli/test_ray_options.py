"""--ray, whose address may be left out, and what goes with it."""

from __future__ import annotations

import sys
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from loraloom.cli.app import make_app
from loraloom.cli.translated_help import words_with_values
from loraloom.commands.search import search
from loraloom.commands.train import train
from loraloom.errors import RunError
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe
from loraloom.search.request import make_request
from loraloom.search.space_file import parse_space
from loraloom.workers import cluster
from loraloom.workers.cluster import RayWorkers, connect
from loraloom.workers.cluster_nodes import slots_of
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


@pytest.mark.parametrize("verb", ["train", "search"])
@pytest.mark.parametrize(
    ("address", "says"), [("auto", "Ray is not installed"), ("127.0.0.1:1", "no Ray cluster")]
)
def test_a_cluster_that_cannot_be_used_is_said_before_rows_and_base_are_read(
    verb: str, address: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe names neither: whoever reads them first says that they are missing."""
    is_missing = address == "auto"
    monkeypatch.setitem(sys.modules, "ray", None if is_missing else ModuleType("ray"))
    if not is_missing:
        sys.modules["ray"].__spec__ = ModuleSpec("ray", None)
    text = "{model_name_or_path: ./none, data: {train: none.json}}"
    (tmp_path / "r.yaml").write_text(text)
    (tmp_path / "s.yaml").write_text("r: [2, 4]")
    recipe = parse_recipe(text, name="r.yaml").in_folder(tmp_path)
    space = parse_space("r: [2, 4]", name="s.yaml", recipe=recipe)
    request = make_request(recipe, space, num_trials=2, sampler="grid", halving=False)
    call: Any = partial(train, recipe) if verb == "train" else partial(search, request)
    with pytest.raises(RunError, match=says):
        call(out=tmp_path / "run", ray=RayOptions(address))
    words = [verb, str(tmp_path / "r.yaml"), "--ray", address, "--out", str(tmp_path / "run")]
    if verb == "search":
        words += ["--space", str(tmp_path / "s.yaml"), "--trials", "2"]
    told = CliRunner().invoke(make_app("check", verb), words)
    assert isinstance(told.exception, RunError)
    assert says in str(told.exception)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("address", ["head..a:6379", "127.0.0.1:²", f"127.0.0.1:{2**70}", "a\0b:6379"])
def test_an_address_that_cannot_be_one_is_said_too(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    sys.modules["ray"].__spec__ = ModuleSpec("ray", None)
    with pytest.raises(RunError, match="no Ray cluster answers"):
        RayOptions(address).require_cluster()


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


@pytest.mark.parametrize(("address", "ends"), [("local", True), ("auto", False)])
def test_a_node_with_too_few_cpus_is_noted_once_and_a_local_cluster_has_no_other(
    address: str, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"NodeID": "n", "NodeManagerHostname": "h", "Alive": True, "Resources": {"CPU": 2.0}}
    ray = SimpleNamespace(nodes=lambda: [node])
    monkeypatch.setattr(cluster, "connect", lambda options: (ray, False))
    monkeypatch.setattr(cluster, "_packed_run", lambda run: b"")
    monkeypatch.setattr(cluster, "NODES_SECONDS", 0.0)
    nothing: Any = None
    workers = RayWorkers(RayOptions(address, num_cpus=8), nothing, nothing, nothing)
    assert workers.num_expected == 0
    noted = ["h cannot take part: it offers 2 CPUs, and a worker needs 8"]
    assert list(workers.remarks()) == noted
    assert workers.why_none() == (noted[0] if ends else "")
    assert not workers.remarks()
