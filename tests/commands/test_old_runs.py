"""Runs that LoRALoom 0.1 made open, resume, compare and report as they did then."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from loraloom.recipe.legacy import MEANT_IN_0_1
from tests.faults.warm import Ended, Warm

OLD = Path(__file__).parents[1] / "old_runs" / "v0.1"
RESUMABLE = ("finished", "tsv", "talks")


def seal(run: Path, name: str) -> None:
    """Enter a file's sum as 0.1 did."""
    sums_file = run / ".sums.json"
    if not sums_file.is_file():
        return
    files = json.loads(sums_file.read_bytes())["files"]
    files[name] = [hashlib.sha256((run / name).read_bytes()).hexdigest()]
    own = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    sums_file.write_text(json.dumps({"files": files, "sha256": own}), encoding="utf-8")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder with the old runs, as if they had been made there."""
    folder = Path(shutil.copytree(OLD, tmp_path / "old"))
    for file in folder.glob("*/provenance.json"):
        text = file.read_text(encoding="utf-8").replace("OLD_RUNS", str(folder.resolve()))
        file.write_text(text, encoding="utf-8")
        seal(file.parent, file.name)
        for part in ("checkpoints", "adapters", "compare"):  # git keeps no empty folder
            (file.parent / part).mkdir(exist_ok=True)
    return folder


def done(ended: Ended) -> Ended:
    assert ended.code == 0, ended.stderr
    return ended


def test_all_are_listed(old: Path, warm: Warm) -> None:
    said = done(warm.call("runs", ".", cwd=old)).stdout
    assert all(name in said for name in ("finished", "talks-interrupted", "tsv", "search", "range_test"))


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_finished_run_is_as_it_was_left(old: Path, warm: Warm, name: str) -> None:
    ended = done(warm.call("train", "--resume", name, cwd=old))
    assert "finished and intact" in ended.stderr
    assert "changed" not in ended.stderr


@pytest.mark.parametrize("name", RESUMABLE)
def test_an_interrupted_run_ends_with_the_adapters_of_an_uninterrupted_one(
    old: Path, warm: Warm, name: str
) -> None:
    """The uninterrupted one is 0.1's own: every source is cut, and every row read, as it was then."""
    recipe = "recipe.yaml" if name == "finished" else f"{name}.yaml"
    ended = done(warm.call("train", recipe, "--resume", f"{name}-interrupted", cwd=old))
    assert "resum" in ended.stderr.lower()
    for adapter in (old / name / "adapters").iterdir():
        expected = load_file(adapter / "adapter_model.safetensors")
        resumed = load_file(
            old / f"{name}-interrupted" / "adapters" / adapter.name / "adapter_model.safetensors"
        )
        assert expected.keys() == resumed.keys()
        for key, tensor in expected.items():
            # Another processor sums in another order; other rows or cuts are off by far more.
            assert (resumed[key] - tensor).abs().max() <= 1e-2 * tensor.abs().max(), key


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_comparison_finds_the_figures_of_0_1(old: Path, warm: Warm, name: str) -> None:
    file = old / name / "compare" / "test.json"
    before = json.loads(file.read_bytes())
    done(warm.call("compare", name, cwd=old))
    after = json.loads(file.read_bytes())
    assert [row["source"] for row in after["rows"]] == [row["source"] for row in before["rows"]]
    for model, own in before["models"].items():
        now = after["models"][model]["figures"]
        assert now["eval_loss"] == pytest.approx(own["figures"]["eval_loss"], rel=1e-3)


def test_a_report_is_written(old: Path, warm: Warm) -> None:
    for name in (*RESUMABLE, "search", "range_test", "finished-interrupted"):
        done(warm.call("report", name, cwd=old))
        page = (old / name / "report.html").read_text(encoding="utf-8")
        assert not re.search(
            r"\bNone\b|\bnan\b", re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.S)
        )


def test_a_search_is_resumed_by_its_command(old: Path, warm: Warm) -> None:
    words = ["search", "recipe.yaml", "--space", "space.yaml", "--trials", "4", "--set", "experiments="]
    words += ["--set", "training.max_steps=6", "--set", "training.eval_steps=2", "--resume", "search"]
    assert "it is finished" in done(warm.call(*words, cwd=old)).stderr


def test_a_search_is_compared_and_its_best_recipe_is_read(old: Path, warm: Warm) -> None:
    best = json.loads((old / "search" / "search.json").read_bytes())["trials"][0]["name"]
    done(warm.call("compare", "search", "--split", "eval", "--experiment", best, cwd=old))
    shutil.copy(old / "search" / "best.yaml", old / "best.yaml")
    # As a recipe for new runs: their sources are so short that most are one to the base.
    allowed = ("--allow", "same-sources")
    done(warm.call("check", "best.yaml", "--data-only", *allowed, cwd=old))


def test_moved_runs_are_used_with_base_and_data_named(old: Path, warm: Warm) -> None:
    """As they lie in a repository: begun in a folder that is nowhere."""
    where = old / "finished" / "provenance.json"
    where.write_text(where.read_text(encoding="utf-8").replace(str(old.resolve()), "/gone"), encoding="utf-8")
    seal(where.parent, where.name)
    (old / "base").rename(old / "renamed")
    (old / "rows.json").rename(old / "kept.json")
    refused = warm.call("compare", "finished", cwd=old)
    assert refused.code == 1
    assert "searched in /gone" in refused.stderr
    assert "--data PATH" in refused.stderr
    moved = ("--base", "renamed", "--data", "kept.json")
    before = json.loads((old / "finished" / "compare" / "test.json").read_bytes())
    done(warm.call("compare", "finished", *moved, cwd=old))
    after = json.loads((old / "finished" / "compare" / "test.json").read_bytes())
    assert [row["source"] for row in after["rows"]] == [row["source"] for row in before["rows"]]
    assert "finished and intact" in done(warm.call("train", "--resume", "finished", *moved, cwd=old)).stderr
    (old / "asked.jsonl").write_text('{"instruction": "如何处理焦虑？"}\n', encoding="utf-8")
    words = ("predict", "finished", "asked.jsonl", "--experiment", "wide", "--base")
    assert "looked for at" in warm.call(*words[:-1], cwd=old).stderr
    done(warm.call(*words, "renamed", cwd=old))
    words = ("merge", "finished", "merged", "--experiment", "wide")
    done(warm.call(*words, *moved, cwd=old))


def test_predict_and_merge(old: Path, warm: Warm) -> None:
    (old / "asked.jsonl").write_text('{"instruction": "如何处理焦虑？"}\n', encoding="utf-8")
    answered = done(warm.call("predict", "finished", "asked.jsonl", "--experiment", "wide", cwd=old)).stdout
    assert json.loads(answered)["row"] == 1
    done(warm.call("merge", "finished", "merged", "--experiment", "wide", cwd=old))
    assert (old / "merged" / "model.safetensors").is_file()


def test_a_setting_newer_than_the_run_means_what_was_done_then(
    old: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loraloom.recipe.reading import read_recipe, read_recipe_with_notes, read_run_recipe

    monkeypatch.setitem(MEANT_IN_0_1, ("data", "on_empty"), "drop")
    run_recipe = old / "finished" / "recipe.yaml"
    assert read_run_recipe(run_recipe).data.on_empty == "error"  # it is stated there
    text = run_recipe.read_text(encoding="utf-8").replace("  on_empty: error\n", "")
    run_recipe.write_text(text, encoding="utf-8")
    assert read_run_recipe(run_recipe).data.on_empty == "drop"
    own = old / "recipe.yaml"
    assert read_recipe(own).data.on_empty == "error"  # a new run
    assert read_recipe_with_notes(own, resumed=run_recipe).recipe.data.on_empty == "drop"
    said = read_recipe_with_notes(own, ["data.on_empty=error"], resumed=run_recipe).recipe
    assert said.data.on_empty == "error"  # what is said outright holds, and differs from the run's
