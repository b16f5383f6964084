"""Experiments spread over devices: a process on each, one run folder, the adapters of one device."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from loraloom.commands.train import train
from loraloom.errors import RecipeError
from loraloom.forecast.plan import placed
from loraloom.recipe import Recipe
from loraloom.recipe.reading import parse_recipe
from loraloom.run.documents.provenance import Provenance, SearchRequest
from loraloom.run.events import Event, Note, TrainStep
from loraloom.run.folder import Run
from loraloom.session.device_list import device_notes, devices_in_use
from loraloom.session.locations import Relocation
from loraloom.session.threads import set_threads, threads_choice
from loraloom.workers.devices import _start
from loraloom.workers.journal import is_ready
from tests.commands.trained import ROWS


def _recipe(folder: Path, tiny: Callable[[str], Path], experiments: dict[str, Any]) -> Recipe:
    (folder / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    return Recipe.model_validate(
        {
            "model_name_or_path": str(tiny("mt5")),
            "data": {"train": str(folder / "rows.json"), "eval": 4},
            "lora": {"r": 2},
            "experiments": experiments,
            "training": {
                "max_steps": 8,
                "learning_rate": 1e-3,
                "eval_strategy": "no",
                "save_strategy": "no",
            },
            "device": "cpu",
        }
    )


def test_two_processes_train_what_one_does(tmp_path: Path, tiny: Callable[[str], Path]) -> None:
    recipe = _recipe(tmp_path, tiny, {name: {"lora": {"r": r}} for name, r in (("a", 2), ("b", 4), ("c", 2))})
    said: list[str] = []
    out = tmp_path / "spread"

    def report(event: Event) -> None:
        if isinstance(event, Note):
            said.append(str(event.message))
        deadline = time.monotonic() + 120
        while isinstance(event, TrainStep) and time.monotonic() < deadline:
            if any(map(is_ready, out.glob("workers/*"))) or not out.exists() or event.step > 5:
                break  # the other process has the base; until then this one would train everything
            time.sleep(0.05)

    alone = train(recipe, out=tmp_path / "alone")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # with more, threads on a small machine wait for each other
        spread = train(recipe.revised({"devices": ["cpu", "cpu"]}), out=out, report=report)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert [each for each in said if "takes part" in each]
    for name in "abc":
        folders = [each.run.adapters / name for each in (alone, spread)]
        files = [load_file(each / "adapter_model.safetensors") for each in folders]
        torch.testing.assert_close(*files, rtol=1e-3, atol=1e-5)  # sums are in another order
    known = json.loads(spread.run.provenance_file.read_text(encoding="utf-8"))
    assert known["choices"]["devices"]["value"] == "cpu: a, b | cpu: c"
    threads = known["choices"]["threads"]
    assert threads["value"] == "1"
    assert threads["reason"]["id"] == "an equal share for each of the {num} processes on the CPU"
    assert {each.name for each in spread.run.folder.iterdir()}.isdisjoint({"workers", "lanes"})


@pytest.mark.parametrize(("num_threads", "share"), [(1, 1), (4, 2), (7, 3)])
def test_processes_on_the_processor_share_its_threads_equally(num_threads: int, share: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        set_threads({}, ["cpu", "cpu"])
        assert threads_choice(["cpu", "cpu"]).value == str(share)
        assert torch.get_num_threads() == share
    finally:
        torch.set_num_threads(before)


def test_a_device_without_an_experiment_is_not_used(
    tmp_path: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = _recipe(tmp_path, tiny, {"a": {}}).revised({"devices": ["cpu", "cpu"]})
    said: list[str] = []
    threads: list[int] = []

    def report(event: Event) -> None:
        if isinstance(event, Note):
            said.append(str(event.message))
        if isinstance(event, TrainStep):
            threads.append(torch.get_num_threads())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        monkeypatch.setattr(subprocess, "Popen", None)  # no process is started
        outcome = train(recipe, out=tmp_path / "run", report=report)
    finally:
        torch.set_num_threads(before)
    assert set(threads) == {4}
    says = "`devices` lists 2 devices for one experiment, which trains on one device, so `train` uses only"
    assert f"{says} the first" in said
    known = json.loads(outcome.run.provenance_file.read_text(encoding="utf-8"))
    assert known["choices"]["threads"]["value"] == "4"
    assert "devices" not in known["choices"]


def test_a_search_uses_all_devices_and_a_training_one_for_each_experiment(
    tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    devices = ["cuda:0", "cuda:1", "cuda:2"]
    recipe = _recipe(tmp_path, tiny, {"a": {}, "b": {}}).revised({"device": "auto", "devices": devices})
    request = SearchRequest(space={}, trials=1, sampler="random", halving=False)
    known = Provenance(started="", folder="/", versions={}, seeds={}, choices={}, search=request)
    assert devices_in_use(recipe, known) == devices  # more trials may be asked for on resume
    assert devices_in_use(recipe) == devices[:2]
    (note,) = device_notes(recipe)
    assert "3 devices for 2 experiments" in str(note)
    assert str(note).endswith("so `train` uses only the first 2")


@pytest.mark.parametrize(("device", "threads"), [("cpu", "3"), ("cuda:1", None)])
def test_a_process_on_the_processor_starts_with_its_share_of_the_threads(
    device: str, threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(subprocess, "Popen", lambda *words, env, **options: environments.append(env))
    _start(Run(tmp_path), device, Relocation())
    assert [each.get("OMP_NUM_THREADS") for each in environments] == [threads]


def test_the_plan_divides_experiments_in_order_as_far_as_memory_holds_them() -> None:
    devices = ["cuda:0", "cuda:1"]
    assert placed(list("abc"), devices, 9) == [("cuda:0", ["a", "b"]), ("cuda:1", ["c"])]
    assert placed(list("abcde"), devices, 2) == [("cuda:0", ["a", "b"]), ("cuda:1", ["c", "d"])]
    assert placed(["a"], devices, 2) == [("cuda:0", ["a"]), ("cuda:1", [])]


@pytest.mark.parametrize(
    ("devices", "says"),
    [
        ("[0, 0]", "names cuda:0 twice"),
        ("[cpu, tpu]", "devices"),
        ("[1, cpu], device: cpu", "cannot be combined with device"),
    ],
)
def test_devices_that_make_no_sense_are_refused(devices: str, says: str) -> None:
    text = f"{{model_name_or_path: starter, data: {{train: starter}}, devices: {devices}}}"
    with pytest.raises(RecipeError, match=says):
        parse_recipe(text, name="recipe.yaml")
    numbers = parse_recipe(text.replace(devices, "[0, 1]"), name="recipe.yaml")
    assert numbers.devices == ["cuda:0", "cuda:1"]
