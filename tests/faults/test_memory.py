"""Memory that really runs out: the address space is limited, and it is the allocator that says no."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.bank.updates.kinds import num_weights
from loraloom.base.loading import load_base
from loraloom.base.targets import linears
from loraloom.recipe import LoraSettings
from loraloom.run.folder import Run
from loraloom.text.message import from_data
from tests.faults.training import events, fruits
from tests.faults.warm import Warm
from tests.tiny import make_folder

ROOM_MIB = 40
LARGE_R = 4_096
RECIPE = """\
model_name_or_path: {model}
data: {{train: data.json, eval: 0, max_source_length: 64, max_target_length: 64}}
lora: {{r: 4, lora_dropout: 0.2}}
training:
  {{learning_rate: 1.0e-2, per_device_train_batch_size: 256, max_steps: 2, base_dropout: 0.1,
    save_strategy: steps, save_steps: 1, save_total_limit: 9}}
"""


@pytest.fixture
def recipe(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    """One pass of which needs some hundred MiB."""
    rows = [
        {
            "instruction": f"感到焦虑时应该怎么办 {n}？" * 2,
            "response": f"先试着和朋友说说自己的事 {n * n}。" * 2,
        }
        for n in range(300)
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny("mt5")), encoding="utf-8")
    return recipe


def test_the_same_optimizer_batch_in_smaller_passes_and_a_resume_that_goes_by_them(
    warm: Warm, recipe: Path, tmp_path: Path, trying: Callable[..., None]
) -> None:
    trying(
        "memory runs out", 1, "the same optimizer batch in smaller passes; a resume repeats them to the bit"
    )
    train = ("train", recipe, "--out")
    whole, tight = tmp_path / "whole", tmp_path / "tight"
    assert warm.call(*train, whole, cwd=tmp_path).code == 0
    faults = {"call": "loraloom.training.loop:step_losses", "number": 1, "room_mib": ROOM_MIB}
    ended = warm.call(*train, tight, cwd=tmp_path, faults=faults)
    assert ended.code == 0, ended.stderr
    assert "warning: memory ran out in step 1" in ended.stderr
    assert "a step still uses the same rows" in ended.stderr
    told = events(tight, "memory")
    assert told[-1]["pass_tokens"] <= told[-1]["tried"] // 2
    found, expected = fruits(tight), fruits(whole)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)
    assert [e["num_tokens"] for e in events(tight, "train")] == [
        e["num_tokens"] for e in events(whole, "train")
    ]
    for checkpoint in Run(tight).checkpoints.iterdir():  # only the log knows then what memory allowed
        shutil.rmtree(checkpoint)
    Run(tight).result_file.unlink()
    resumed = warm.call("train", "--resume", tight, cwd=tmp_path)  # with memory enough
    assert resumed.code == 0, resumed.stderr
    assert events(tight, "resume")[-1]["step"] == 0
    assert fruits(tight).adapters == found.adapters
    assert fruits(tight).losses == found.losses


def test_an_experiment_that_is_too_large_fails_alone(warm: Warm, recipe: Path, tmp_path: Path) -> None:
    """Itself, its gradients and its two moments are four times its weights; there is room for two."""
    wide = make_folder(tmp_path / "wide", "mt5", d_model=128, d_kv=32, d_ff=192)
    base = load_base(str(wide), dtype="float32", device="cpu")
    large = num_weights(LoraSettings(r=LARGE_R), linears(base.model, base.family))
    room_mib = 2 * 4 * large // 2**20
    assert room_mib > 300  # the others, and what training needs anyhow, take less than half of it
    recipe.write_text(
        RECIPE.format(model=wide).replace("_size: 256", "_size: 4")
        + f"experiments: {{small: {{}}, large: {{lora: {{r: {LARGE_R}}}}}, other: {{seed: 7}}}}\n",
        encoding="utf-8",
    )
    run = tmp_path / "run"
    faults = {"call": "loraloom.commands.train:predict_resources", "number": 1, "room_mib": room_mib}
    ended = warm.call("train", recipe, "--out", run, cwd=tmp_path, faults=faults)
    assert ended.code == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    outcome = json.loads(Run(run).result_file.read_text(encoding="utf-8"))["experiments"]
    assert {name: entry["status"] for name, entry in outcome.items()} == {
        "small": "done",
        "large": "failed",
        "other": "done",
    }
    reason = from_data(outcome["large"]["reason"])
    assert reason.startswith("out of memory")
    assert sorted(path.name for path in Run(run).adapters.iterdir()) == ["other", "small"]
    assert f"large failed: {reason}" in ended.stderr
