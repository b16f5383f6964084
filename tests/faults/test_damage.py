"""Damaged checkpoints and adapters are noticed, said, and replaced from what is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from loraloom.run.folder import Run
from tests.faults.reference import Reference, newest_step
from tests.faults.training import events
from tests.faults.warm import Warm


def flip_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture
def run(interrupted: Callable[[str], Path], tmp_path: Path) -> Path:
    """Of "in waves", killed when it had two checkpoints."""
    run = Path(shutil.copytree(interrupted("in waves"), tmp_path / "run"))
    assert len(list(Run(run).checkpoints.glob("step-*"))) == 2
    return run


CURRENT = "slots/long/current.safetensors"
DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a flipped bit in an adapter": (CURRENT, flip_bit),
    "a truncated manifest": ("MANIFEST.json", truncate),
    "a missing file": (CURRENT, Path.unlink),
    "an empty file": ("state.json", lambda file: file.write_bytes(b"")),
    "a surplus file": ("MANIFEST.json", lambda file: file.with_name("more").touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_said_and_the_one_before_it_serves(
    damage: str, reference: Callable[[str], Reference], run: Path
) -> None:
    name, inflict = DAMAGES[damage]
    newest = newest_step(run)
    inflict(Run(run).checkpoints / f"step-{newest:06d}" / name)
    ended = reference("in waves").resume(run)
    assert ended.code == 0, ended.stderr
    assert f"checkpoint step-{newest:06d} is not used: " in ended.stderr
    said = events(run, "damaged")
    assert [event["path"] for event in said] == [f"step-{newest:06d}"]
    assert said[0]["problem"]
    assert 0 < events(run, "resume")[-1]["step"] < newest
    reference("in waves").assert_same(run)


def test_with_every_checkpoint_damaged_it_begins_from_the_start_and_says_so(
    reference: Callable[[str], Reference], run: Path
) -> None:
    for checkpoint in Run(run).checkpoints.glob("step-*"):
        flip_bit(checkpoint / CURRENT)
    ended = reference("in waves").resume(run)
    assert ended.code == 0, ended.stderr
    assert ended.stderr.count("is not used") == 2
    assert "no checkpoint is valid, so training starts from the beginning" in ended.stderr
    assert events(run, "resume")[-1]["step"] == 0
    reference("in waves").assert_same(run)


def test_a_warning_is_shown_where_everything_else_is_quiet(
    warm: Warm, reference: Callable[[str], Reference], run: Path
) -> None:
    flip_bit(Run(run).checkpoints / f"step-{newest_step(run):06d}" / CURRENT)
    expected = reference("in waves")
    ended = warm.call(
        "train", expected.recipe, "--resume", run, "--json", cwd=run.parent, faults=expected.faults
    )
    assert ended.code == 0
    lines = ended.stderr.splitlines()
    assert all(line.startswith("warning: ") for line in lines)
    assert len([line for line in lines if "checkpoint step-" in line and "is not used" in line]) == 1


@pytest.fixture
def finished(reference: Callable[[str], Reference], tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference("together").folder, tmp_path / "run"))


def times(run: Path) -> dict[str, tuple[int, bytes]]:
    """Of every file but the lock: when it was written and what it holds."""
    return {
        str(file.relative_to(run)): (file.stat().st_mtime_ns, file.read_bytes())
        for file in run.rglob("*")
        if file.is_file() and file.name != ".lock"
    }


@pytest.mark.parametrize("kind", ["together", "in waves"])
def test_a_finished_run_is_verified_and_left_as_it_is(
    kind: str, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(reference(kind).folder, tmp_path / "run"))
    before = times(run)
    ended = reference(kind).resume(run)
    assert ended.code == 0, ended.stderr
    assert "it is finished and intact" in ended.stderr
    assert times(run) == before


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_a_finished_run_is_left_as_it_is_whatever_the_save_strategy(
    strategy: str, warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    train = ("train", reference("together").recipe, "--set", f"training.save_strategy={strategy}")
    train += ("--set", "training.save_steps=null")
    run = tmp_path / "run"
    assert warm.call(*train, "--out", run, cwd=tmp_path).code == 0
    before = times(run)
    ended = warm.call(*train, "--resume", run, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert times(run) == before


ADAPTER_DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a flipped bit": ("adapter_model.safetensors", flip_bit),
    "a missing file": ("adapter_model.safetensors", Path.unlink),
    "a truncated file": ("adapter_model.safetensors", truncate),
    "a missing configuration": ("adapter_config.json", Path.unlink),
    "another rank in the configuration": (
        "adapter_config.json",
        lambda file: file.write_text(file.read_text().replace('"r": 4', '"r": 8')),
    ),
    "another scale in the configuration": (
        "adapter_config.json",
        lambda file: file.write_text(file.read_text().replace('"lora_alpha": 32', '"lora_alpha": 64')),
    ),
    "a damaged origin": ("loraloom.json", truncate),
    "a folder that is gone": ("", shutil.rmtree),
}


@pytest.mark.parametrize("damage", ADAPTER_DAMAGES)
def test_a_damaged_adapter_of_a_finished_run_is_written_anew_and_said(
    damage: str, reference: Callable[[str], Reference], finished: Path
) -> None:
    name, inflict = ADAPTER_DAMAGES[damage]
    inflict(Run(finished).adapters / "long" / name)
    others = {name: value for name, value in times(finished).items() if name.startswith("adapters/short")}
    ended = reference("together").resume(finished)
    assert ended.code == 0, ended.stderr
    assert "adapters/long is written again: " in ended.stderr
    reference("together").assert_same(finished)
    assert others.items() <= times(finished).items()


def test_what_somebody_changed_on_purpose_is_kept_beside_what_is_written_anew(
    reference: Callable[[str], Reference], finished: Path
) -> None:
    expected = reference("together")
    card = Run(finished).adapters / "long" / "README.md"
    card.write_text(f"{card.read_text(encoding='utf-8')}My own notes.\n", encoding="utf-8")
    recipe = Run(finished).recipe_file
    recipe.write_text(f"# mine\n{recipe.read_text(encoding='utf-8')}", encoding="utf-8")
    ended = expected.resume(finished)
    assert ended.code == 0, ended.stderr
    assert "its changed content was copied to changed/adapters/long" in ended.stderr
    assert "its changed content was copied to changed/recipe.yaml" in ended.stderr
    expected.assert_same(finished)
    assert Run(finished).recipe_file.read_bytes() == (expected.folder / "recipe.yaml").read_bytes()
    changed = Run(finished).changed
    assert (changed / "adapters/long/README.md").read_text(encoding="utf-8").endswith("My own notes.\n")
    assert (changed / "recipe.yaml").read_text(encoding="utf-8").startswith("# mine\n")


def test_an_adapter_that_no_checkpoint_has_stays_as_it_is(
    warm: Warm, reference: Callable[[str], Reference], tmp_path: Path
) -> None:
    expected, run = reference("together"), tmp_path / "run"
    train = (
        "train",
        expected.recipe,
        "--set",
        "training.save_strategy=no",
        "--set",
        "training.save_steps=null",
    )
    assert warm.call(*train, "--out", run, cwd=tmp_path).code == 0
    card = Run(run).adapters / "long" / "README.md"
    card.write_text("mine\n", encoding="utf-8")
    weights = (card.parent / "adapter_model.safetensors").read_bytes()
    ended = warm.call(*train, "--resume", run, cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "README.md has changed since the run wrote it: it is left as it is, because" in ended.stderr
    assert card.read_text(encoding="utf-8") == "mine\n"
    assert (card.parent / "adapter_model.safetensors").read_bytes() == weights
