"""GGUF exports run by llama.cpp: `make gguf` compiles and runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loraloom.commands.export import export
from tests.commands.trained import train_small
from tests.export.gguf_bases import make_gguf_base

pytest.importorskip("gguf", reason="`make gguf` installs it")
pytest.importorskip("llama_cpp", reason="`make gguf` compiles it")

BASES = [("t5", True), ("flan", False), ("mt5", False), ("mt5", True), ("umt5", True), ("umt5", False)]
IDS = [f"{'tied' if tied else 'own'}-{kind}" for kind, tied in BASES]


@pytest.fixture(scope="module", params=BASES, ids=IDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind, tied = request.param
    folder = tmp_path_factory.mktemp("llama")
    return train_small(folder, make_gguf_base(folder / "base", kind, tied=tied, d_ff=64))


@pytest.mark.parametrize("form", [{}, {"adapter_only": True}], ids=["merged", "adapter"])
def test_llama_cpp_answers_as_base_and_adapter_do(run: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    """The export's own proof demands it, log-probabilities included."""
    result = export(run, tmp_path / "out", format="gguf", **form)
    assert result["proof"] is not None
    assert result["proof"]["runtime"].startswith("llama-cpp-python")


@pytest.mark.parametrize("quantization", ["bfloat16", "int8"])
def test_rounded_files_run(run: Path, tmp_path: Path, quantization: str) -> None:
    result = export(run, tmp_path / "out", format="gguf", quantization=quantization)
    assert result["proof"] is not None
    measured = result["proof"]["measured"]
    assert abs(measured["mean_found"] - measured["mean_expected"]) < 0.1
