"""What is said before the first step: it changes no result, and it comes true."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from loraloom.bank.bank import AdapterBank
from loraloom.base.loading import Base, load_base
from loraloom.forecast import prediction as module
from loraloom.forecast.prediction import measure_pace, predict
from loraloom.recipe import Experiment
from loraloom.run.documents.prediction import Prediction
from loraloom.run.documents.provenance import Provenance
from loraloom.run.folder import create_run
from loraloom.training.setup import Setup
from loraloom.training.signals import StopRequest
from tests.parity import rig

ROWS = rig.random_rows(14, seed=3)
WAVE = [
    rig.experiment("a", lora={"r": 4, "lora_dropout": 0.2}, num_train_epochs=2),
    rig.experiment("b", lora={"target_modules": ["q", "v"]}, seed=5, num_train_epochs=1),
]
# The allocators of other systems keep less or more of what is freed than glibc's, of which the plan knows;
# there `python -m benchmarks.memory` prints how far it is off. On glibc it is within 15 %.
TOLERANCE = 0.25


def setup_of(base: Base, folder: Path, experiments: list[Experiment] = WAVE, **changes: Any) -> Setup:
    values: dict[str, Any] = {
        "bank": AdapterBank(base),
        "experiments": experiments,
        "waves": [[each.name for each in experiments]],
        "initial": {},
        "train_set": ROWS,
        "eval_set": rig.NO_ROWS,
        "eval_references": [],
        "retain_set": rig.NO_ROWS,
        "shared": experiments[0].training,
        "generation": rig.GenerationSettings(max_new_tokens=4),
        "run": create_run(folder),
        "stop": StopRequest(),
    }
    return Setup(**{**values, **changes})


def test_a_prediction_changes_no_bit_of_the_training(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    plain = rig.train_all(load_base(str(tiny("mt5"))), WAVE, ROWS, tmp_path / "plain")
    base, state = load_base(str(tiny("mt5"))), torch.get_rng_state()
    setup = setup_of(base, tmp_path / "predicted")
    predict(setup)
    assert setup.bank.slots == ()
    assert torch.equal(torch.get_rng_state(), state)
    after = rig.train_all(base, WAVE, ROWS, tmp_path / "after")
    for name in ("a", "b"):
        assert after.losses(name) == plain.losses(name)
        for key, tensor in plain.adapter(name).items():
            assert torch.equal(after.adapter(name)[key], tensor)


def test_the_time_is_that_of_one_step_times_all_tokens(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((10.0, 12.0))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    pace = predict(setup_of(mt5, tmp_path / "run")).pace
    assert pace is not None
    tokens = int((ROWS.source_lengths + ROWS.target_lengths).sum())
    assert pace.step_seconds == 2.0
    assert pace.epoch_seconds == pytest.approx(2 * tokens / pace.tokens_per_second)  # each sees every row
    assert pace.seconds == pytest.approx(3 * tokens / pace.tokens_per_second)  # two epochs and one


def test_a_signal_leaves_the_time_open_and_the_bank_empty(mt5: Base, tmp_path: Path) -> None:
    stop = StopRequest()
    stop.signal_number = 15
    # several passes, for a signal is heeded between two
    setup = setup_of(mt5, tmp_path / "run", stop=stop, pass_tokens=1)
    found = predict(setup)
    assert found.pace is None
    assert setup.bank.slots == ()
    assert found.memory.peak_bytes > found.memory.loaded_bytes > 0


def prediction_of(plan: Any) -> Prediction | None:
    known = {"started": "", "folder": "/", "versions": {}, "seeds": {}, "choices": {}, "plan": plan}
    return Provenance.model_validate(known).prediction


def test_what_is_kept_in_a_file_is_read_again(mt5: Base, tmp_path: Path) -> None:
    found = predict(setup_of(mt5, tmp_path / "run"))
    kept = json.loads(json.dumps(found.to_json()))
    assert prediction_of(kept) == found


@pytest.mark.parametrize("damaged", [None, [], {"waves": [["a"]]}, {"memory": 3}])
def test_what_is_no_prediction_is_none(damaged: Any) -> None:
    assert prediction_of(damaged) is None


def test_a_checkpoint_is_no_larger_than_said(mt5: Base, tmp_path: Path) -> None:
    saving = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    wave = [rig.experiment(name, max_steps=4, **saving) for name in ("a", "b")]
    said = predict(setup_of(mt5, tmp_path / "said", wave)).disk
    rig.train_all(mt5, wave, ROWS, tmp_path / "run", eval_set=ROWS, **saving)
    (folder,) = (tmp_path / "run" / "checkpoints").glob("step-000002")
    tensors = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    assert 0.9 * said.checkpoint_bytes < tensors < 1.6 * said.checkpoint_bytes  # headers, on a tiny model
    assert said.num_kept == wave[0].training.save_total_limit
    assert said.free_bytes > 0


def test_later_waves_count_too(mt5: Base, tmp_path: Path) -> None:
    small = rig.experiment("small", lora={"r": 1, "target_modules": ["q"]}, per_device_train_batch_size=1)
    large = rig.experiment("large", lora={"r": 64}, per_device_train_batch_size=8)
    both = setup_of(mt5, tmp_path / "both", [small, large], waves=[["small"], ["large"]])
    alone = setup_of(mt5, tmp_path / "alone", [large])
    assert needed(predict(both)) >= needed(predict(alone))


def needed(prediction: Prediction) -> int:
    return prediction.memory.needed_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own figure is Linux's")
def test_the_predicted_peak_comes_true(tmp_path: Path, imports_bytes: int) -> None:
    """A whole training of the starter in a process of its own, less what the imports take."""
    recipe = {
        "model_name_or_path": "starter",
        "data": {"train": "starter", "eval": 0},
        "training": {"max_steps": 4, "eval_strategy": "no", "save_strategy": "no"},
        "experiments": {f"e{number}": {"seed": number} for number in range(4)},
        "dtype": "float32",
        "device": "cpu",
    }
    file, out = tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(json.dumps(recipe), encoding="utf-8")
    loraloom = Path(sys.executable).with_name("loraloom")
    subprocess.run([loraloom, "train", file, "--out", out, "--json"], check=True, capture_output=True)
    measured = json.loads((out / "result.json").read_text(encoding="utf-8"))["peak_bytes"] - imports_bytes
    kept = json.loads((out / "provenance.json").read_text(encoding="utf-8"))["plan"]["memory"]
    predicted = kept["peak_bytes"] - imports_bytes
    assert predicted == pytest.approx(measured, rel=TOLERANCE)


@pytest.fixture(scope="module")
def imports_bytes() -> int:
    return peak_of_imports()


def peak_of_imports() -> int:
    """By the kernel's figure of the process alone: another one counts the memory of who began it."""
    program = (
        "import loraloom.commands.train, loraloom.console\n"
        "from loraloom.base.available_memory import peak_process_bytes\n"
        "print(peak_process_bytes())"
    )
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return int(told.stdout)


def test_the_peak_of_a_process_is_not_that_of_who_began_it(imports_bytes: int) -> None:
    held = b"x" * (2 * imports_bytes)  # written, so that it takes memory
    assert peak_of_imports() < len(held)


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.OutOfMemoryError("CUDA out of memory")])
@pytest.mark.parametrize("where", ["training.engine.Engine.join", "training.passes.span_losses"])
def test_a_step_that_memory_does_not_hold_is_not_timed(
    mt5: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: Exception
) -> None:
    """It is left to training to find out whose fault that is; the bank is as it was."""

    def out_of_memory(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(f"loraloom.{where}", out_of_memory)
    setup = setup_of(mt5, tmp_path / "run")
    assert measure_pace(setup) is None
    assert setup.bank.slots == ()
