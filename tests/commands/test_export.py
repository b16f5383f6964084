"""An export answers in its own runtime as base + adapter do, or it is not there."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from loraloom.cli import app
from loraloom.commands.export import export, export_foreign
from loraloom.errors import Interrupted, LoRALoomError, ModelError, RecipeError, RunError
from loraloom.export import exported_folder as workflow
from loraloom.export import merge_way
from loraloom.export.export_proof import ProofMeasurement, Reference, check_exact, measure
from loraloom.export.format import ExportSource
from loraloom.export.formats import FORMATS
from loraloom.export.peft_format import Peft
from loraloom.export.runtime import ProofRows, RuntimeOutputs, answered_together, parts_of, spans
from loraloom.export.transformers_format import Transformers
from loraloom.run.events import Event, Note
from loraloom.training.signals import StopRequest
from tests.commands.exporting import assert_nothing_left, prove_here, run_example, run_here

# PEFT still asks transformers for the old name of activation checkpointing.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    prove_here(monkeypatch)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["mt5", "bart", "mbart"])
def test_every_format_answers_as_base_and_adapter_and_so_does_its_example(
    kind: str,
    tiny: Callable[[str], Path],
    trained: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, said = trained(kind), {}
    for format in ("transformers", "peft"):
        made = export(run, tmp_path / format, format=format)
        proof = made["proof"]
        assert proof is not None
        assert proof["is_exact"]
        assert proof["runtime"].startswith(format)
        assert proof["measured"]["num_same_answers"] == proof["measured"]["num_answers"] == 6
        assert proof["measured"]["largest_difference"] < 1e-4
        said[format] = run_example(tmp_path / format, monkeypatch, tiny(kind))
    if kind != "bart":  # transformers completes a call from the base's own settings, which a merge drops
        assert said["transformers"] == said["peft"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peft", "transformers"]


@pytest.mark.usefixtures("here")
def test_a_rounded_export_says_how_many_answers_changed_and_what_that_did(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    made = export(trained("mt5"), tmp_path / "out", format="transformers", quantization="bfloat16")
    proof = made["proof"]
    assert proof is not None
    assert not proof["is_exact"]
    assert proof["computed_in"] == "bfloat16"
    figures = {own["metric"]: own for own in proof["figures"]}
    assert {"eval_loss", "chrf", "exact_match"} <= figures.keys()
    assert all(own["low"] <= own["difference"] <= own["high"] for own in figures.values())
    loss = figures["eval_loss"]["difference"]
    moved = proof["measured"]["mean_expected"] - proof["measured"]["mean_found"]
    assert loss == pytest.approx(moved, rel=1e-6)
    assert 0 < abs(loss) < 0.1
    assert any("greedy answers differ" in note for note in made["notes"])
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| chrf |" in card


@pytest.mark.usefixtures("here")
def test_an_adapter_without_a_run(
    tiny: Callable[[str], Path], trained: Callable[..., Path], tmp_path: Path
) -> None:
    run = trained("mt5")
    made = export_foreign(tiny("mt5"), run / "adapters" / "main", tmp_path / "out", format="peft")
    assert made["proof"] is not None
    assert made["proof"]["rows"] == "8 rows of random tokens"
    same = (tmp_path / "out" / "adapter_model.safetensors").read_bytes()
    assert same == (run / "adapters" / "main" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [
        ({"format": "torchscript"}, RecipeError, "is not an export format"),
        ({"format": "peft", "quantization": "int8"}, RecipeError, "has no such quantization"),
        (
            {"format": "transformers", "adapter_only": True},
            RecipeError,
            "the base and the adapter in one model",
        ),
        ({"format": "transformers", "quantization": "float16"}, ModelError, "overflows in float16"),
        ({"format": "peft", "experiment": "other"}, LoRALoomError, "other"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    trained: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr("loraloom.commands.export.load_with_adapter", None)
    with pytest.raises(kind, match=message):
        export(trained("mt5"), tmp_path / "out", **asked)
    assert_nothing_left(tmp_path)


def test_a_folder_that_exists_is_refused(trained: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunError, match="already exists"):
        export(trained("mt5"), tmp_path, format="peft")


def test_a_format_that_is_not_installed_names_its_extra(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FORMATS["ctranslate2"], "writes_with", ("not_installed_at_all",), raising=True)
    with pytest.raises(ModelError, match=r"not_installed_at_all is not installed.*loraloom\[ctranslate2\]"):
        export(trained("mt5"), tmp_path / "out", format="ctranslate2")
    assert_nothing_left(tmp_path)


def test_without_its_runtime_an_export_is_written_and_said_to_be_unverified(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Peft, "runs_with", ("not_installed_at_all",))
    monkeypatch.setattr(Peft, "runtime_extra", "some")
    made = export(trained("mt5"), tmp_path / "out", format="peft")
    assert made["proof"] is None
    assert any("not verified" in note and "loraloom[some]" in note for note in made["notes"])
    assert "not verified" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("here")
def test_a_base_that_memory_does_not_hold_is_said_before_it_is_loaded(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[tuple[str, int], list[str]] = {}
    for format in ("transformers", "peft"):
        for free in (2**40, 1000):
            events: list[Event] = []
            monkeypatch.setattr(merge_way, "free_bytes", lambda device, free=free: free)
            export(trained("mt5"), tmp_path / f"{format}-{free}", format=format, report=events.append)
            notes = [event.message for event in events if isinstance(event, Note)]
            found[format, free] = [note for note in notes if "so the system may kill the process" in note]
    assert {key: len(notes) for key, notes in found.items()} == {
        ("transformers", 2**40): 0,
        ("transformers", 1000): 1,
        ("peft", 2**40): 0,
        ("peft", 1000): 1,
    }
    assert "`loraloom merge` writes the same folder shard by shard" in found["transformers", 1000][0]
    assert "merge" not in found["peft", 1000][0]


def test_a_disk_that_fills_leaves_nothing(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(self: Peft, source: ExportSource, folder: Path) -> list[str]:
        (folder / "half").write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Peft, "write", fill)
    with pytest.raises(RunError, match=r"could not be written.*No space left"):
        export(trained("mt5"), tmp_path / "out", format="peft")
    assert_nothing_left(tmp_path)


def test_the_space_is_that_of_what_is_written(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Measured(Exception):
        pass

    def check(folder: Path, model: object, dtype: torch.dtype) -> None:
        raise Measured(dtype)

    monkeypatch.setattr(workflow, "check_space", check)
    prove_here(monkeypatch)
    with pytest.raises(Measured, match=r"torch\.bfloat16"):
        export(trained("mt5"), tmp_path / "out", format="transformers", quantization="bfloat16")
    assert_nothing_left(tmp_path)
    export(trained("mt5"), tmp_path / "out", format="peft")  # has none of the base's weights


def test_a_stop_during_the_proof_leaves_nothing(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = StopRequest()

    def stopped(*given: Any) -> RuntimeOutputs:
        stop.stop()
        return run_here(*given)

    monkeypatch.setattr(workflow, "run_export", stopped)
    with pytest.raises(Interrupted):
        export(trained("mt5"), tmp_path / "out", format="peft", stop=stop)
    assert_nothing_left(tmp_path)


def _without_an_answer(outputs: RuntimeOutputs) -> RuntimeOutputs:
    return replace(outputs, answers=[[], *outputs.answers[1:]])


def _shifted(outputs: RuntimeOutputs) -> RuntimeOutputs:
    assert outputs.log_probabilities is not None
    return replace(
        outputs, log_probabilities=[[own - 0.1 for own in row] for row in outputs.log_probabilities]
    )


def _not_a_number(outputs: RuntimeOutputs) -> RuntimeOutputs:
    assert outputs.log_probabilities is not None
    return replace(outputs, log_probabilities=[[math.nan] * len(row) for row in outputs.log_probabilities])


def _another_tokenizer(outputs: RuntimeOutputs) -> RuntimeOutputs:
    return replace(outputs, encodings=[[5, 6, 7, 8, 9, 1]] * 6)


@pytest.mark.parametrize("damage", [_without_an_answer, _shifted, _not_a_number, _another_tokenizer])
def test_what_answers_otherwise_is_not_kept(
    trained: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[RuntimeOutputs], RuntimeOutputs],
) -> None:
    monkeypatch.setattr(workflow, "run_export", lambda *given: damage(run_here(*given)))
    with pytest.raises(ModelError, match=r"proof: .*own"):
        export(trained("mt5"), tmp_path / "out", format="peft")
    assert_nothing_left(tmp_path)


@pytest.mark.usefixtures("here")
def test_a_tokenizer_that_gives_other_tokens_is_not_kept(
    trained: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Transformers.write

    def write_and_damage(self: Transformers, source: ExportSource, folder: Path) -> list[str]:
        notes = honest(self, source, folder)
        file = folder / "tokenizer.json"
        text = file.read_text(encoding="utf-8").replace('"我"', '"㊀"')
        file.write_text(text, encoding="utf-8")
        return notes

    monkeypatch.setattr(Transformers, "write", write_and_damage)
    with pytest.raises(ModelError, match="the runtime's own tokenizer gives different tokens"):
        export(trained("mt5"), tmp_path / "out", format="transformers")
    assert_nothing_left(tmp_path)


def test_a_tie_is_no_difference() -> None:
    rows = ProofRows([[5, 1]], [[6, 1]], [], 0, 1, [0], [None], 4)
    near = Reference([[7]], [[-1.0, -2.0]], [[{7: -0.5, 8: -0.5001}, {1: -0.1}]])
    found = measure(RuntimeOutputs([[8]], "own", "", [[-1.0, -2.0]]), near, rows)
    assert found == ProofMeasurement(1, 0, pytest.approx(1e-4), 0.0, -1.5, -1.5)
    check_exact(found, near)
    far = replace(near, nearest=[[{7: -0.5, 8: -0.9}, {1: -0.1}]])
    with pytest.raises(ModelError, match="gives different outputs from base"):
        check_exact(measure(RuntimeOutputs([[8]], "own", "", [[-1.0, -2.0]]), far, rows), far)


def test_the_command_with_the_proof_in_a_process_of_its_own(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = CliRunner().invoke(
        app, ["export", str(trained("mt5")), str(out), "--format", "peft", "--json"], catch_exceptions=False
    )
    assert ended.exit_code == 0, ended.output
    made = json.loads(ended.stdout)
    assert made["proof"]["runtime"].startswith("peft ")
    assert made["bytes"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def test_every_format_says_what_it_is() -> None:
    for name, format in FORMATS.items():
        assert format.name == name
        assert format.exact & set(format.quantizations)
        assert not (format.writes_with and not format.extra)
    assert Transformers.quantizations[0] == "float32"


@pytest.mark.usefixtures("here")
def test_given_prompts_are_the_rows_of_the_proof(
    tiny: Callable[[str], Path], trained: Callable[..., Path], tmp_path: Path
) -> None:
    """Without known answers the targets are those of base + adapter."""
    run, asked = trained("mt5"), tmp_path / "asked.txt"
    asked.write_text("".join(f"我感到焦虑 {i}\n" for i in range(70)), encoding="utf-8")
    for quantization in (None, "bfloat16"):
        options: dict[str, Any] = {"format": "transformers", "quantization": quantization}
        made = export(run, tmp_path / f"run-{quantization}", prompts=asked, **options)
        proof = made["proof"]
        assert proof is not None
        assert proof["rows"] == "64 rows of the given data"
        assert proof["figures"] == []
        # Greedy tokens are likelier than by chance.
        assert proof["measured"]["mean_expected"] > -math.log(400)
        assert "the proof uses 64 of the 70 prompts" in made["notes"]
    asked.write_text("".join(f"我感到焦虑 {i}\n" for i in range(3)), encoding="utf-8")
    adapter = run / "adapters" / "main"
    made = export_foreign(tiny("mt5"), adapter, tmp_path / "own", format="peft", prompts=asked)
    assert made["proof"] is not None
    assert made["proof"]["rows"] == "3 rows of the given data"
    with pytest.raises(LoRALoomError, match="cannot be combined with prompts"):
        export_foreign(
            tiny("mt5"), adapter, tmp_path / "no", format="peft", prompts=asked, data=run / "rows.json"
        )


@pytest.mark.usefixtures("here")
def test_prompts_with_answers_give_figures(trained: Callable[..., Path], tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    row = {"instruction": "我感到焦虑 how?", "output": "先慢慢来."}
    asked.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    made = export(
        trained("mt5"), tmp_path / "out", format="transformers", quantization="bfloat16", prompts=asked
    )
    assert made["proof"] is not None
    assert made["proof"]["figures"]


@pytest.mark.parametrize("has_prompts", [False, True])
def test_only_answers_that_figures_need_are_generated_to_their_end(
    has_prompts: bool,
    tiny: Callable[[str], Path],
    trained: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[ProofRows] = []

    def noting(format: Any, folder: Path, proof: Path, rows: ProofRows, *rest: Any) -> RuntimeOutputs:
        asked.append(rows)
        return run_here(format, folder, proof, rows, *rest)

    monkeypatch.setattr(workflow, "run_export", noting)
    (tmp_path / "asked.txt").write_text("我感到焦虑\n", encoding="utf-8")
    export_foreign(
        tiny("mt5"),
        trained("mt5") / "adapters" / "main",
        tmp_path / "out",
        format="transformers",
        quantization="bfloat16",
        prompts=tmp_path / "asked.txt" if has_prompts else None,
        sets=["generation.max_new_tokens=70"],
    )
    (rows,) = asked
    assert rows.max_new_tokens == (70 if has_prompts else 64)


def test_the_command_for_one_of_several_experiments_keeps_the_options(
    trained: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"--format transformers --quantization bfloat16 --experiment a"):
        export(trained("mt5", "a", "b"), tmp_path / "out", format="transformers", quantization="bfloat16")


def test_long_targets_are_cut_into_parts() -> None:
    lengths = [3, 4, 60, 70, 300, 5]
    rows = ProofRows([[1]] * 6, [[1] * n for n in lengths], [], 0, 1, [0] * 6, [None] * 6, 4)
    assert [[len(own) for own in part.targets] for part in parts_of(rows)] == [[3, 4], [60], [70], [300], [5]]
    assert [len(part.targets) for part in parts_of(replace(rows, targets=[[1]] * 6))] == [6]
    assert [(own.start, own.stop) for own in spans(300)] == [(0, 128), (128, 256), (256, 300)]


@pytest.mark.parametrize(
    ("num_rows", "longest", "sizes"),
    [(70, 64, [32, 32, 6]), (8, 512, [7, 1]), (3, 5000, [1, 1, 1]), (0, 0, [])],
)
def test_so_many_rows_are_answered_at_once_as_their_keys_and_values_fit(
    num_rows: int, longest: int, sizes: list[int]
) -> None:
    sources = [[number] * max(1, longest - number % 3) for number in range(num_rows)]
    rows = ProofRows(sources, sources, [], 0, 1, [0] * num_rows, [None] * num_rows, 64)
    parts = list(answered_together(rows))
    assert [len(part.sources) for part in parts] == sizes
    assert [source for part in parts for source in part.sources] == sources
