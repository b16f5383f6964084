"""A merged folder says what base and adapter say, or it is not there."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM
from transformers.core_model_loading import revert_weight_conversion
from typer.testing import CliRunner

from loraloom.bank.updates.low_rank import LowRank
from loraloom.base.frozen_linear import FrozenLinear
from loraloom.base.loading import Base
from loraloom.cli import app
from loraloom.commands import merge as merge_verb
from loraloom.commands.merge import merge
from loraloom.errors import AdapterError, Interrupted, ModelError, RunError
from loraloom.export import fresh_process, runtime, transformers_answers, weight_hashes
from loraloom.export import merged_folder as workflow
from loraloom.export import transformers_format as written
from loraloom.export.formats import FORMATS
from loraloom.export.fresh_process import ProofRows, StoredOutputs, difference, store_outputs
from loraloom.export.proof import check_equal, run_fresh_process
from loraloom.export.transformers_folder import stored_dtype
from loraloom.training.signals import StopRequest
from tests.commands.trained import machine_paths
from tests.families import KINDS, TINY_FAMILIES
from tests.parity.rig import stock_model
from tests.run.test_lock import held_by_a_child

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def assert_nothing_left(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == []


@dataclass(frozen=True)
class MergedRun:
    """A run merged in float32, and what a fresh process measured on the folder."""

    run: Path
    folder: Path
    result: dict[str, Any]
    measured: dict[str, Any]


@pytest.fixture(scope="module")
def merged_runs(
    trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, MergedRun]:
    """Every kind; one fresh process for all of them, since it takes seconds to start."""
    root = tmp_path_factory.mktemp("merged")
    (root / "out").mkdir()
    results, jobs = {}, []
    for kind in KINDS:

        def keep_question(model: Path, proof: Path, stop: StopRequest, kind: str = kind) -> Any:
            shutil.copytree(proof, root / "questions" / kind)
            return fresh_process.measure(model, proof)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workflow, "run_fresh_process", keep_question)
            results[kind] = merge(trained(kind), root / "out" / kind)
        jobs.append([str(root / "out" / kind), str(root / "questions" / kind)])
    program = f"from {fresh_process.__name__} import main\nfor job in {jobs!r}: main(*job)"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert sorted(path.name for path in (root / "out").iterdir()) == sorted(KINDS)
    return {
        kind: MergedRun(
            trained(kind),
            root / "out" / kind,
            results[kind],
            json.loads((root / "questions" / kind / "measured.json").read_text(encoding="utf-8")),
        )
        for kind in KINDS
    }


def test_merge_asks_a_fresh_process(trained: Callable[..., Path], tmp_path: Path) -> None:
    proof = merge(trained("mt5"), tmp_path / "merged")["proof"]
    assert proof["reload"]["num_same_answers"] == proof["reload"]["num_same_encodings"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def as_in_files(model: Any) -> dict[str, torch.Tensor]:
    """Its weights under the names that transformers saves them with."""
    return dict(revert_weight_conversion(model, model.state_dict()))


def test_a_fresh_process_reads_what_base_and_adapter_say(
    kind: str, merged_runs: dict[str, MergedRun], tiny: Callable[[str], Path]
) -> None:
    merged_run = merged_runs[kind]
    out, result, measured = merged_run.folder, merged_run.result, merged_run.measured["float32"]
    assert (result["dtype"], result["dtype_reason"]) == ("float32", "as in the base's files")
    assert measured == result["proof"]["reload"]  # in another process, to the last bit
    assert measured["num_same_answers"] == measured["num_answers"] == 6
    assert measured["num_same_encodings"] == 6
    assert result["proof"]["weight_error"] < 1
    assert 0 < measured["max_difference"] < 1e-5 * measured["largest_logit"]
    family = TINY_FAMILIES[kind]
    flag_matters = (
        family.flag_matters_here
    )  # with transformers that need no flag, cards say what older ones need
    assert measured["flag_matters"] == flag_matters
    assert any("tie_word_embeddings" in note for note in result["notes"]) == flag_matters
    assert result["bytes"] == sum(file.stat().st_size for file in out.iterdir())

    # Tied or not stays what it was, in the config and in the weights.
    is_tied = family.is_tied
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert config["tie_word_embeddings"] is is_tied
    merged = load_file(out / "model.safetensors")
    assert ("lm_head.weight" in merged) is not is_tied
    generation = json.loads((out / "generation_config.json").read_text(encoding="utf-8"))
    assert (generation["max_new_tokens"], generation["do_sample"]) == (12, False)
    assert generation["eos_token_id"] == config["eos_token_id"]

    # PEFT, which knows nothing of us, merges to the same weights.
    peft = PeftModel.from_pretrained(stock_model(tiny(kind)), merged_run.run / "adapters" / "main")
    with warnings.catch_warnings():
        # It compares the head of T5Gemma with the encoder's table, and would save the folder without it.
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        theirs = as_in_files(peft.merge_and_unload())
    plain = as_in_files(stock_model(tiny(kind)))
    assert theirs.keys() >= merged.keys()
    num_changed = 0
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-7)
        num_changed += not torch.equal(tensor, plain[name])
    assert num_changed == result["proof"]["num_merged"]

    for file in out.glob("*.*"):
        if file.suffix in (".json", ".md"):
            text = file.read_text(encoding="utf-8")
            assert not [path for path in machine_paths(tiny(kind), out) if path in text], file.name
    card = (out / "README.md").read_text(encoding="utf-8")
    assert ("model.config.tie_word_embeddings = False  #" in card) == flag_matters
    assert ("set `model.config.tie_word_embeddings = False`" in card) == (
        family.flag_matters and not flag_matters
    )


@pytest.mark.usefixtures("proof_here")
def test_a_smaller_dtype_says_its_rounding(trained: Callable[..., Path], tmp_path: Path) -> None:
    result = merge(trained("umt5"), tmp_path / "merged", dtype="bfloat16")
    proof = result["proof"]
    assert proof["merging"]["max_difference"] < 1e-5 * proof["merging"]["largest_logit"]
    assert proof["reload"]["max_difference"] < 1e-5 * proof["reload"]["largest_logit"]
    assert 1e-3 < proof["rounding"]["max_difference"] < 0.1 * proof["rounding"]["largest_logit"]
    assert any(note.startswith("rounded to bfloat16: logits move by up to 0.") for note in result["notes"])
    assert 0 < proof["rounding_beside_update"] < 1
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert stored_dtype(str(tmp_path / "merged")) == "bfloat16"
    assert "bfloat16: same greedy answers" in (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("proof_here")
def test_an_adapter_that_rounding_swallows_is_said(trained: Callable[..., Path], tmp_path: Path) -> None:
    run = copy_of(trained("mt5"), tmp_path)
    change_adapter(run, lambda name, tensor: tensor * 1e-3 if ".lora_B" in name else tensor)
    result = merge(run, tmp_path / "merged", dtype="bfloat16")
    assert result["proof"]["rounding_beside_update"] > 1
    assert any("times as much as the adapter did" in note for note in result["notes"])


@pytest.mark.usefixtures("proof_here")
@pytest.mark.parametrize("strength", [1.0, 1e-4])
def test_a_tensor_left_unmerged_is_found_however_little_it_says(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    (tmp_path / "out").mkdir()
    run = copy_of(trained("mt5"), tmp_path)
    change_adapter(run, lambda name, tensor: tensor * strength if ".lora_B" in name else tensor)
    calls: list[LowRank] = []
    honest = LowRank.delta

    def once_nothing(part: LowRank, linear: FrozenLinear) -> torch.Tensor:
        calls.append(part)
        return honest(part, linear) * (0 if len(calls) == 5 else 1)

    monkeypatch.setattr(LowRank, "delta", once_nothing)
    with pytest.raises(ModelError, match=r"encoder\.block.*differs from base \+ adapter"):
        merge(run, tmp_path / "out" / "merged")
    assert_nothing_left(tmp_path / "out")


@pytest.mark.usefixtures("proof_here")
@pytest.mark.parametrize("damage", ["head", "config", "tokenizer"])
def test_a_folder_that_reads_otherwise_is_not_kept(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    honest = written.save_model

    def save_and_damage(base: Base, folder: Path) -> list[str]:
        notes = honest(base, folder)
        if damage == "head":
            weights = load_file(folder / "model.safetensors")
            weights["lm_head.weight"] = weights["shared.weight"].clone()
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        elif damage == "config":
            change_json(folder / "config.json", feed_forward_proj="gated-relu", dense_act_fn="relu")
        else:
            text = (folder / "tokenizer.json").read_text(encoding="utf-8")
            (folder / "tokenizer.json").write_text(text.replace('"NFC"', '"NFD"').replace('"我"', '"㊀"'))
        return notes

    monkeypatch.setattr(written, "save_model", save_and_damage)
    with pytest.raises(ModelError, match=r"proof: .*(as loaded by|the tokenizer that) plain transformers"):
        merge(trained("mt5"), tmp_path / "merged")
    assert_nothing_left(tmp_path)


def test_what_is_written_is_read_back(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_wrong(model: Any, folder: Path, **options: Any) -> None:
        honest(model, folder, **options)
        weights = load_file(folder / "model.safetensors")
        weights["decoder.final_layer_norm.weight"][3] += 1e-7
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    from transformers import MT5ForConditionalGeneration

    honest = MT5ForConditionalGeneration.save_pretrained
    monkeypatch.setattr(MT5ForConditionalGeneration, "save_pretrained", save_wrong)
    with pytest.raises(
        ModelError, match=r"decoder\.final_layer_norm\.weight: a tensor was written incorrectly"
    ):
        merge(trained("mt5"), tmp_path / "merged")
    assert_nothing_left(tmp_path)


def test_what_is_there_stays(trained: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "link"):
        with pytest.raises(RunError, match="already exists"):
            merge(trained("mt5"), tmp_path / name)
    with pytest.raises(RunError, match="the folder does not exist"):
        merge(trained("mt5"), tmp_path / "no" / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link"]


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float16", "--dtype: the feed-forward of t5 overflows in float16.*Allowed: float32, bfloat16"),
        ("int8", "is not a supported dtype .found: int8."),
    ],
)
def test_a_dtype_that_does_not_do_is_refused_before_anything_is_loaded(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, message: str
) -> None:
    monkeypatch.delattr(merge_verb, "load_run_base")
    with pytest.raises(ModelError, match=message):
        merge(trained("t5"), tmp_path / "merged", dtype=dtype)
    assert_nothing_left(tmp_path)


def test_a_damaged_adapter_and_one_of_another_base_are_refused(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = copy_of(trained("mt5"), tmp_path)
    change_json(run / "adapters" / "main" / "loraloom.json", base_fingerprint="0" * 64)
    with pytest.raises(AdapterError, match="was trained on another base model"):
        merge(run, tmp_path / "merged")
    weights = run / "adapters" / "main" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(AdapterError, match=r"adapter_model\.safetensors is damaged"):
        merge(run, tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.usefixtures("proof_here")
def test_a_run_of_several_experiments_asks_which_and_an_unfinished_one_says_so(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = copy_of(trained("mt5", "narrow", "wide"), tmp_path)
    with pytest.raises(RunError, match=r"several experiments.*narrow \(.*wide \(.*--experiment narrow"):
        merge(run, tmp_path / "merged")
    shutil.rmtree(run / "adapters" / "wide")
    (run / "result.json").unlink()
    with pytest.raises(RunError, match="`wide` has no adapter"):
        merge(run, tmp_path / "merged", experiment="wide")
    result = merge(run, tmp_path / "merged", experiment="narrow")
    assert "training has not ended; only adapters that are finished so far are used" in result["notes"]
    assert result["proof"]["num_merged"] == 12


@pytest.mark.usefixtures("proof_here")
def test_without_the_data_the_proof_takes_random_tokens_and_says_so(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = copy_of(trained("mt5"), tmp_path)
    recipe = run / "recipe.yaml"
    recipe.write_text(re.sub(r"train: .*", "train: gone.json", recipe.read_text(encoding="utf-8"), count=1))
    result = merge(run, tmp_path / "merged")
    assert result["proof"]["rows"] == "8 rows of random tokens"
    assert "the run's rows are not available, so the proof uses random tokens" in result["notes"][0]


def test_too_little_room_is_said_before_the_work(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10, 10, 1000))
    with pytest.raises(RunError, match="too little space for the merged model"):
        merge(trained("mt5"), tmp_path / "merged")
    assert_nothing_left(tmp_path)


def test_a_signal_ends_the_fresh_process(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match="stopped; nothing was kept"):
        run_fresh_process(tmp_path, tmp_path, StopRequest(15))


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("echo 'OSError: no weights' >&2; exit 1", "OSError: no weights"),
        ("kill -9 $$", "signal 9, possibly for lack of memory"),
    ],
)
def test_a_fresh_process_that_fails_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, message: str
) -> None:
    failing = tmp_path / "python"
    failing.write_text(f"#!/bin/sh\n{ending}\n", encoding="utf-8")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(ModelError, match=f"plain transformers cannot load the folder .found: .*{message}"):
        run_fresh_process(tmp_path, tmp_path, StopRequest())


def test_an_interrupted_merge_leaves_nothing(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked_to_stop(model: Path, proof: Path, stop: StopRequest) -> Any:
        stop.signal_number = 15
        return run_fresh_process(model, proof, stop)

    monkeypatch.setattr(workflow, "run_fresh_process", asked_to_stop)
    with pytest.raises(Interrupted):
        merge(trained("mt5"), tmp_path / "merged")
    assert_nothing_left(tmp_path)


def test_a_disk_that_fills_with_the_outputs_is_named_and_nothing_is_left(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: Any, file: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(fresh_process, "save_file", fail)
    with pytest.raises(RunError, match=r"outputs for the proof could not be written.*No space left"):
        merge(trained("mt5"), tmp_path / "merged")
    assert_nothing_left(tmp_path)


def test_an_answer_that_parts_at_a_tie_is_the_same_and_elsewhere_it_is_not(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = stock_model(tiny("mt5")).eval()
    rows = ProofRows([[5, 6, 1]], [[7, 8, 1]], [], 0, 1, [0], [None], max_new_tokens=5)
    said = store_outputs(model, rows, tmp_path / "said")
    with torch.no_grad():
        first = model(input_ids=torch.tensor([[5, 6, 1]]), decoder_input_ids=torch.tensor([[0]])).logits[
            0, -1
        ]
    best, second = first.topk(2).indices.tolist()
    measured = difference(model, rows, StoredOutputs(said.folder, [[second]]))
    assert said.answers[0][0] == best
    assert measured.num_same_answers == 0
    assert measured.largest_gap == pytest.approx(float(first[best] - first[second]), abs=1e-6)
    with pytest.raises(ModelError, match="0 of 1 answers are the same"):
        check_equal(measured, "it differs")
    with torch.no_grad():
        model.lm_head.weight[second] = model.lm_head.weight[best] * (1 - 1e-6)
    tied = store_outputs(model, rows, tmp_path / "tied")
    check_equal(difference(model, rows, StoredOutputs(tied.folder, [[second]])), "it differs")


def test_the_fresh_process_has_nothing_of_ours() -> None:
    """But the form of the rows, whose file imports nothing of ours."""
    found = {}
    modules = [module.__name__ for module in (fresh_process, runtime, transformers_answers, weight_hashes)]
    for name in [*modules, *(format.runtime for format in FORMATS.values())]:
        file = Path(runtime.__file__).with_name(f"{name.rpartition('.')[2]}.py")
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        found[name] = [each for each in sorted(names) if each.startswith(("loraloom", "peft"))]
    assert found == {
        "loraloom.export.fresh_process": ["loraloom.export.runtime"],
        "loraloom.export.runtime": [],
        "loraloom.export.weight_hashes": ["loraloom.export.fresh_process", "loraloom.export.runtime"],
        "loraloom.export.transformers_answers": ["loraloom.export.fresh_process", "loraloom.export.runtime"],
        "loraloom.export.transformers_runtime": [
            "loraloom.export.runtime",
            "loraloom.export.transformers_answers",
        ],
        "loraloom.export.peft_runtime": [
            "loraloom.export.runtime",
            "loraloom.export.transformers_answers",
            "peft",
        ],
        "loraloom.export.ctranslate2_runtime": ["loraloom.export.runtime"],
        "loraloom.export.onnx_runtime": ["loraloom.export.runtime"],
        # An adapter alone is loaded onto a GGUF file of its base, which is written first.
        "loraloom.export.gguf_runtime": [
            "loraloom.export.gguf.base_file",
            "loraloom.export.gguf.gguf_names",
            "loraloom.export.runtime",
        ],
    }


def test_the_dtype_of_files_in_shards_is_found(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(tiny("mt5"), dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert stored_dtype(str(tmp_path / "shards")) == "bfloat16"
    assert stored_dtype(str(tmp_path)) is None


@pytest.mark.usefixtures("proof_here")
def test_on_the_command_line(trained: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "merged"
    told = CliRunner().invoke(app, ["merge", str(trained("mt5")), str(out), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["folder"] == str(out)
    with safe_open(out / "model.safetensors", framework="pt") as weights:
        assert "lm_head.weight" in weights.keys()  # noqa: SIM118
    shown = CliRunner().invoke(app, ["merge", str(trained("t5")), str(tmp_path / "tied")])
    assert "new process: same greedy answers  6 of 6" in shown.stdout
    assert "from_pretrained" in shown.stderr


def copy_of(run: Path, folder: Path) -> Path:
    return Path(shutil.copytree(run, folder / "run"))


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def change_adapter(run: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    file = run / "adapters" / "main" / "adapter_model.safetensors"
    save_file({name: change(name, tensor) for name, tensor in load_file(file).items()}, file)


def test_of_two_merges_into_one_folder_the_second_is_refused_with_the_pid(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = copy_of(trained("mt5"), tmp_path)
    staged = tmp_path / ".merged.merging"
    staged.mkdir()
    with held_by_a_child(staged / ".lock") as pid, pytest.raises(RunError) as refused:
        merge(run, tmp_path / "merged")
    assert f"merged: another process is writing to this folder (pid {pid})" in str(refused.value)
    assert not (tmp_path / "merged").exists()
    assert [path.name for path in staged.iterdir()] == [".lock"]
