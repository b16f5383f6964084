"""Exports to GGUF, run by llama.cpp: `make gguf` compiles it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.export import export
from loraloom.training import card_code
from tests.commands.exporting import prove_here, run_example
from tests.commands.trained import train_small
from tests.export.gguf_bases import TEXTS, make_gguf_base

pytest.importorskip("gguf", reason="`make gguf` installs it")
pytest.importorskip("llama_cpp", reason="`make gguf` compiles it")

from loraloom.export.gguf.base_file import write_base

BASES = [("t5", True), ("flan", False), ("mt5", False), ("mt5", True), ("umt5", True), ("umt5", False)]
IDS = [f"{'tied' if tied else 'own'}-{kind}" for kind, tied in BASES]


@pytest.fixture(scope="module", params=BASES, ids=IDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, tied = request.param
    folder = tmp_path_factory.mktemp("llama")
    return train_small(folder, make_gguf_base(folder / "base", kind, tied=tied, d_ff=64))


@pytest.mark.parametrize("form", [{}, {"adapter_only": True}], ids=["merged", "adapter"])
def test_llama_cpp_answers_as_base_and_adapter_do(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: dict[str, Any]
) -> None:
    prove_here(monkeypatch)
    result = export(run, tmp_path / "out", format="gguf", **form)
    assert result["proof"] is not None
    assert result["proof"]["runtime"].startswith("llama-cpp-python")
    measured = result["proof"]["measured"]
    assert measured["num_same_answers"] == measured["num_answers"] == 6
    # llama.cpp reads GELU, which all but T5 1.0 have, from a table in float16.
    has_gelu = "gelu" in json.loads((run.parent / "base" / "config.json").read_text())["feed_forward_proj"]
    assert measured["largest_difference"] < (5e-3 if has_gelu else 1e-5)


@pytest.mark.parametrize("quantization", ["bfloat16", "int8"])
def test_rounded_files_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    prove_here(monkeypatch)
    result = export(run, tmp_path / "out", format="gguf", quantization=quantization)
    assert result["proof"] is not None
    measured = result["proof"]["measured"]
    assert 0 < abs(measured["mean_found"] - measured["mean_expected"]) < 0.1


def test_the_examples_answer_as_transformers_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prove_here(monkeypatch)
    monkeypatch.setattr(card_code, "PLACEHOLDER", TEXTS[0])
    base = make_gguf_base(tmp_path / "base", "mt5", d_ff=64)
    run = train_small(tmp_path / "trained", base)
    for name, format in (("plain", "transformers"), ("merged", "gguf"), ("adapter", "gguf")):
        export(run, tmp_path / name, format=format, adapter_only=name == "adapter")
    write_base(str(base), tmp_path / "adapter" / "BASE.gguf")
    said = [run_example(tmp_path / name, monkeypatch) for name in ("plain", "merged", "adapter")]
    assert said[0]
    assert said == [said[0]] * 3


def test_the_proof_in_a_process_of_its_own(tmp_path: Path) -> None:
    base = make_gguf_base(tmp_path / "base", "mt5", d_ff=64)
    run = train_small(tmp_path / "trained", base)
    for name, form in (("merged", False), ("adapter", True)):
        assert export(run, tmp_path / name, format="gguf", adapter_only=form)["proof"] is not None
