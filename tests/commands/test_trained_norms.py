"""A run in which one experiment trains norms: everything that is made of it, and what continues it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from loraloom.commands.compare import compare
from loraloom.commands.export import export
from loraloom.commands.merge import merge
from loraloom.commands.train import train
from loraloom.errors import AdapterError, ModelError, TargetError
from tests.commands.exporting import prove_here
from tests.commands.trained import small_recipe
from tests.families import TWO_KINDS

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
NORMS: dict[str, Any] = {"modules_to_save": ["layer_norm"]}


@pytest.fixture(params=TWO_KINDS)
def made(request: pytest.FixtureRequest, tiny: Callable[[str], Path], tmp_path: Path) -> tuple[Any, Path]:
    """A recipe of two experiments, and its finished run."""
    recipe = small_recipe(tmp_path, tiny(request.param)).revised(
        {
            "experiments": {"plain": {}, "norms": {"lora": NORMS}},
            "training": {"num_train_epochs": 1, "save_strategy": "epoch"},
        }
    )
    return recipe, train(recipe, out=tmp_path / "run").run.folder


def test_what_is_made_of_it(
    made: tuple[Any, Path], tmp_path: Path, proof_here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove_here(monkeypatch)
    run = made[1]
    adapter = run / "adapters" / "norms"
    assert "| modules_to_save | layer_norm |" in (adapter / "README.md").read_text(encoding="utf-8")
    assert "modules_to_save" not in (run / "adapters/plain/adapter_config.json").read_text(encoding="utf-8")
    finished = compare(run, split="eval")
    proof = merge(run, tmp_path / "merged", experiment="norms", dtype="float32")["proof"]
    assert proof["merging"]["max_difference"] < 1e-5 * proof["merging"]["largest_logit"]
    assert proof["reload"]["max_difference"] < 1e-5 * proof["reload"]["largest_logit"]
    trained, merged = (
        load_file(adapter / "adapter_model.safetensors"),
        load_file(tmp_path / "merged/model.safetensors"),
    )
    named = {name.removeprefix("base_model.model."): t for name, t in trained.items() if "layer_norm" in name}
    assert named
    assert all(bool((merged[name] == tensor).all()) for name, tensor in named.items())
    exported = export(run, tmp_path / "peft", format="peft", experiment="norms")
    assert exported["proof"] is not None
    assert exported["proof"]["is_exact"]
    # Before its folder is there, it answers with what the newest checkpoint has.
    (run / "result.json").unlink()
    shutil.rmtree(adapter)
    so_far = compare(run, split="eval")
    assert [row.answers["norms"] for row in so_far.rows] == [row.answers["norms"] for row in finished.rows]


def test_training_goes_on_from_it(made: tuple[Any, Path], tmp_path: Path) -> None:
    recipe, run = made
    start = {"init_adapter": str(run / "adapters" / "norms")}
    with pytest.raises(
        AdapterError, match=r"different modules_to_save .*Set lora.modules_to_save: \['layer_norm'\]"
    ):
        train(recipe.revised({"experiments": {"more": {"lora": start}}}), out=tmp_path / "more")
    more = recipe.revised({"experiments": {"more": {"lora": {**start, **NORMS}}}})
    train(more, out=tmp_path / "more")
    before = load_file(run / "adapters/norms/adapter_model.safetensors")
    after = load_file(tmp_path / "more/adapters/more/adapter_model.safetensors")
    moved = [
        float((after[name] - tensor).abs().max()) for name, tensor in before.items() if "layer_norm" in name
    ]
    assert min(moved) > 1e-4


def test_llama_cpp_has_no_norms_in_an_adapter(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="`make extras` installs it")
    from tests.export.gguf_bases import make_gguf_base

    recipe = small_recipe(tmp_path, make_gguf_base(tmp_path / "base", "t5")).revised({"lora": NORMS})
    run = train(recipe, out=tmp_path / "run").run.folder
    with pytest.raises(ModelError, match="adds only the product of A and B"):
        export(run, tmp_path / "out", format="gguf", adapter_only=True)


def test_a_name_of_another_family(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, tiny("mt5")).revised(
        {"lora": {"modules_to_save": ["layernorm_embedding"]}}
    )
    with pytest.raises(TargetError, match=r"lora.modules_to_save: `layernorm_embedding` matches no norm"):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
